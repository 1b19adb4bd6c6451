"""JSON lines to jobs."""

import json
import os
from pathlib import Path

import pytest

from jax_interp.errors import UsageError
from jax_interp.pipeline.requests.batch import plain_name, read_batch
from jax_interp.pipeline.requests.request import GenerateRequest, Job
from jax_interp.pipeline.settings import InterpolationSettings


@pytest.fixture
def template(tmp_path):
    settings = InterpolationSettings(prompt="default")
    return GenerateRequest(jobs=(Job(inputs=(), video=tmp_path / "out" / "film.mp4", settings=settings),))


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
    jobs = read_batch(batch(tmp_path, *lines), template).jobs
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
    with pytest.raises(UsageError, match=r"same\.mp4 is the output of several lines: 1, 3"):
        read_batch(batch(tmp_path, line, "", line), template)


def test_a_name_that_another_line_has_by_its_number(tmp_path, template):
    clip = str(tmp_path / "clip.mp4")
    lines = [{"visual_input": clip, "name": "film_0001.mp4"}, {"visual_input": clip}]
    with pytest.raises(UsageError, match=r"film_0001\.mp4 is the output of several lines: 1, 2"):
        read_batch(batch(tmp_path, *lines), template)


def test_missing_and_empty_files(tmp_path, template):
    with pytest.raises(UsageError, match=r"none\.jsonl: no such file; expected a file of JSON lines"):
        read_batch(tmp_path / "none.jsonl", template)
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory\); expected a file of JSON lines"):
        read_batch(tmp_path, template)
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
    with pytest.raises(UsageError, match=r"--video-save-name 'film\..*': results are mp4 here; leave \..* out"):
        plain_name(name, "--video-save-name")


def test_a_name_that_is_all_suffix():
    with pytest.raises(UsageError, match="nothing before its"):
        plain_name(".mp4", "--video-save-name")


def test_a_name_whose_bytes_are_no_utf8():
    with pytest.raises(UsageError, match=r"'caf\\udce9': is not valid UTF-8"):
        plain_name(os.fsdecode(b"caf\xe9"), "--video-save-name")


def message(path, template):
    with pytest.raises(UsageError) as caught:
        read_batch(path, template)
    return str(caught.value)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_separators_within_a_prompt_end_no_line(tmp_path, template, separator):
    path = batch(tmp_path)
    line = f'{{"visual_input": "{tmp_path / "clip.mp4"}", "prompt": "a{separator}b"}}\n'
    path.write_text(line * 2, encoding="utf-8")
    jobs = read_batch(path, template).jobs
    assert [job.settings.prompt for job in jobs] == [f"a{separator}b"] * 2
    assert [job.video.name for job in jobs] == ["film_0000.mp4", "film_0001.mp4"]


def test_faults_of_the_file_and_of_its_values_are_in_the_order_of_lines(tmp_path, template):
    lines = [{"visual_input": "gone.mp4"}, "{", {"visual_input": "[/gone]"}, "NaN"]
    text = message(batch(tmp_path, *lines), template)
    places = [text.index(f"line {number}: ") for number in (1, 2, 3, 4)]
    assert places == sorted(places)
    assert "line 3: no such file: [/gone]" in text


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "neither a path nor a list of paths"),
        ([""], "neither a path nor a list of paths"),
        ([], "neither a path nor a list of paths"),
        ("x" * 5000, "File name too long"),
        ("a\0b", r"no such file: a\x00b"),
        ("\x1b[2J", r"no such file: \x1b[2J"),
    ],
)
def test_paths_that_cannot_be(tmp_path, template, value, says):
    text = message(batch(tmp_path, {"visual_input": value}), template)
    assert f"line 1: {'x' * 200 + '…: ' if len(value) == 5000 else ''}" in text
    assert says in text
    assert len(text) < 1000


def test_a_message_lists_some_faults_and_counts_the_others(tmp_path, template):
    text = message(batch(tmp_path, *["3"] * 1000), template)
    assert text.count("line ") < 100
    assert text.endswith("and 950 more")


@pytest.mark.parametrize("content", [b"", b"\n\r\n \t\n", b"\xef\xbb\xbf"])
def test_a_file_without_objects(tmp_path, template, content):
    (tmp_path / "batch.jsonl").write_bytes(content)
    assert message(tmp_path / "batch.jsonl", template).endswith("has no lines")
