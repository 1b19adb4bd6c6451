"""JSON lines to jobs."""

import json
import os
from pathlib import Path

import pytest

from jax_interp.errors import UsageError
from jax_interp.pipeline.jobs.batch import plain_name, read_batch
from jax_interp.pipeline.jobs.request import Job
from jax_interp.pipeline.settings import InterpolationSettings


@pytest.fixture
def template(tmp_path):
    return Job(inputs=(), video=tmp_path / "out" / "film.mp4", settings=InterpolationSettings(prompt="default"))


def batch(tmp_path, *lines):
    (tmp_path / "clip.mp4").touch()
    path = tmp_path / "batch.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_one_output_a_line(tmp_path, template):
    clip = str(tmp_path / "clip.mp4")
    lines = [
        {"visual_input": clip, "prompt": "a"},
        "",
        {"visual_input": [clip, clip]},
        {"visual_input": clip, "name": "x"},
    ]
    jobs = read_batch(batch(tmp_path, *lines), template)
    assert [job.video.name for job in jobs] == ["film_0000.mp4", "film_0002.mp4", "x.mp4"]
    assert [job.settings.prompt for job in jobs] == ["a", "default", "default"]
    assert jobs[1].inputs == (Path(clip), Path(clip))


def test_every_faulty_line_is_named(tmp_path, template):
    clip = str(tmp_path / "clip.mp4")
    lines = [
        "not json",
        {"prompt": "no input"},
        {"visual_input": "missing.mp4"},
        {"visual_input": clip, "prompt": 3},
        {"visual_input": clip, "name": "../up"},
        {"visual_input": clip, "promt": "typo"},
        {"visual_input": ""},
        {"visual_input": [clip, ""]},
        {"visual_input": clip, "prompt": "\ud800"},
        {"visual_input": clip, "name": "\ud800"},
        {"visual_input": "\udcff.mp4"},
        {"visual_input": "x" * 300},
        {"visual_input": clip, "name": "film.mov"},
        {"visual_input": clip, "name": ""},
    ]
    with pytest.raises(UsageError) as error:
        read_batch(batch(tmp_path, *lines), template)
    for number in range(1, len(lines) + 1):
        assert f"line {number}:" in str(error.value)


def test_two_lines_with_one_output(tmp_path, template):
    line = {"visual_input": str(tmp_path / "clip.mp4"), "name": "same"}
    with pytest.raises(UsageError, match=r"same\.mp4 is the output of several lines"):
        read_batch(batch(tmp_path, line, line), template)


def test_missing_and_empty_files(tmp_path, template):
    with pytest.raises(UsageError, match="cannot be read"):
        read_batch(tmp_path / "none.jsonl", template)
    with pytest.raises(UsageError, match="has no lines"):
        read_batch(batch(tmp_path, ""), template)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp/x", "a\0b"])
def test_names_that_would_leave_the_folder(name):
    with pytest.raises(UsageError, match="--video-save-name"):
        plain_name(name, "--video-save-name")


def test_no_name_is_needed_for_what_is_not_finished():
    """Files on their way have hidden names of their own, so that these are as good as any."""
    assert [plain_name(name, "--video-save-name") for name in ("a.partial", "a.partial.mp4")] == ["a.partial"] * 2


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("film.mp4", "film"),
        ("film.MP4", "film"),
        ("a.mp4.mp4", "a.mp4"),
        ("v1.0", "v1.0"),
        ("take.2", "take.2"),
        ("映像", "映像"),
    ],
)
def test_a_suffix_in_the_name_is_not_doubled(name, plain):
    assert plain_name(name, "--video-save-name") == plain


@pytest.mark.parametrize("name", ["film.mkv", "film.AVI", "film.webm", "film.gif", "film.png", "film.json", "film.txt"])
def test_results_are_mp4(name):
    with pytest.raises(UsageError, match=r"--video-save-name 'film\..*': results are mp4; leave \..* out"):
        plain_name(name, "--video-save-name")


def test_a_name_that_is_all_suffix():
    with pytest.raises(UsageError, match="nothing before its"):
        plain_name(".mp4", "--video-save-name")


def test_a_name_whose_bytes_are_no_utf8():
    with pytest.raises(UsageError, match=r"'caf\\udce9': is not valid UTF-8"):
        plain_name(os.fsdecode(b"caf\xe9"), "--video-save-name")
