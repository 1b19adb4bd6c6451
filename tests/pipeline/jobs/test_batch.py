"""JSON lines to jobs."""

import json
from pathlib import Path

import pytest

from jax_interp.errors import UsageError
from jax_interp.pipeline.jobs.batch import plain_name, read_batch
from jax_interp.pipeline.jobs.job import Job
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
    ]
    with pytest.raises(UsageError) as error:
        read_batch(batch(tmp_path, *lines), template)
    for number in range(1, 7):
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


def test_a_name_that_unfinished_files_have():
    for name in ("a.partial", "a.partial.mp4"):
        with pytest.raises(UsageError, match="what is not finished is called so"):
            plain_name(name, "--video-save-name")


def test_a_suffix_in_the_name_is_not_doubled():
    assert plain_name("film.mp4", "--video-save-name") == "film"
