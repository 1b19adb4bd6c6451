"""What is written against what is read: every way in which two paths can be one."""

import os
from pathlib import Path

import pytest

from jax_interp.files.overlap import Input, Output, find_overlaps


@pytest.fixture
def folder(tmp_path):
    """clip.mp4, and frames/ with two pictures."""
    (tmp_path / "clip.mp4").write_text("clip")
    (tmp_path / "frames").mkdir()
    for name in ("0.png", "1.png"):
        (tmp_path / "frames" / name).write_text(name)
    return tmp_path


def clip(folder):
    return Input(folder / "clip.mp4", "the input")


def frames(folder):
    return Input(folder / "frames", "the input", files=sorted((folder / "frames").iterdir()))


def overlap(written, read) -> str:
    """What is said, which is nothing of two paths that are apart."""
    found = find_overlaps([written], [read])
    assert len(found) <= 1
    return found[0] if found else ""


def test_what_is_apart(folder):
    for path in ("other.mp4", "frames/2.png", "new/clip.mp4", "clip.mp4.txt"):
        assert not overlap(Output(folder / path, "--out"), clip(folder))
        assert not overlap(Output(folder / path, "--out"), frames(folder))
    for path in ("other", "frames/new", "new/frames"):
        assert not overlap(Output(folder / path, "--out", replaces_folder=True), clip(folder))
        assert not overlap(Output(folder / path, "--out", replaces_folder=True), frames(folder))


SPELLINGS = {
    "itself": lambda folder: folder / "clip.mp4",
    "dots": lambda folder: folder / "frames" / ".." / "clip.mp4",
    "dots behind a folder that is not there": lambda folder: folder / "none" / ".." / "clip.mp4",
    "relative": lambda folder: Path(os.path.relpath(folder / "clip.mp4")),
    "link": lambda folder: link(folder / "link.mp4", folder / "clip.mp4"),
    "link of a link": lambda folder: link(folder / "b", link(folder / "a", folder / "clip.mp4")),
    "linked folder": lambda folder: link(folder / "elsewhere", folder) / "clip.mp4",
    "hard link": lambda folder: hard_link(folder / "hard.mp4", folder / "clip.mp4"),
}


def link(path, target):
    path.symlink_to(target)
    return path


def hard_link(path, target):
    path.hardlink_to(target)
    return path


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("swapped", [False, True])
def test_two_names_of_one_file(folder, spelling, swapped):
    names = [folder / "clip.mp4", SPELLINGS[spelling](folder)]
    written, read = reversed(names) if swapped else names
    said = overlap(Output(written, "--out"), Input(read, "the input"))
    assert said == f"--out {written}: is the input ({read}); choose another name"


def test_upper_and_lower_case_where_the_file_system_ignores_it(folder, monkeypatch):
    """Such a file system finds the file under either name, and says that it is the same one."""
    real = os.stat

    def ignoring_case(path, **options):
        return real(os.fspath(path).replace("CLIP.MP4", "clip.mp4"), **options)

    assert not overlap(Output(folder / "CLIP.MP4", "--out"), clip(folder))
    monkeypatch.setattr(os, "stat", ignoring_case)
    assert overlap(Output(folder / "CLIP.MP4", "--out"), clip(folder))


def test_a_picture_of_a_folder(folder):
    for path in (folder / "frames" / "1.png", link(folder / "x.png", folder / "frames" / "1.png")):
        assert "is the input" in overlap(Output(path, "--out"), frames(folder))


def test_a_folder_that_would_be_replaced(folder):
    def replaced(path):
        return Output(path, "--frames", replaces_folder=True)

    same = folder / "frames"
    assert overlap(replaced(same), frames(folder)) == f"--frames {same}: is the input ({same}); choose another name"
    assert "is the input" in overlap(replaced(link(folder / "link", same)), frames(folder))
    assert "would replace the input" in overlap(replaced(folder), frames(folder))
    assert "would replace the input" in overlap(replaced(folder), clip(folder))
    assert "would replace the input" in overlap(replaced(same), Input(same / "0.png", "the input"))
    hard_link(same / "2.png", folder / "clip.mp4")
    assert "would replace the input" in overlap(replaced(same), clip(folder))


def test_the_link_through_which_a_file_is_read_counts_too(folder):
    (folder / "links").mkdir()
    read = Input(link(folder / "links" / "clip", folder / "clip.mp4"), "the input")
    assert "would replace the input" in overlap(Output(folder / "links", "--frames", replaces_folder=True), read)


def test_a_closed_folder(folder):
    network = Input(folder / "frames", "a network", closed=True)
    assert "is a network" in overlap(Output(folder / "frames", "--out", replaces_folder=True), network)
    for path in (folder / "frames" / "new.json", folder / "frames" / "deep" / "new.json"):
        assert "lies in a network" in overlap(Output(path, "--out"), network)
    assert "lies in a network" in overlap(Output(link(folder / "x", folder / "frames") / "new", "--out"), network)
    assert not overlap(Output(folder / "new.json", "--out"), network)


def test_what_is_written_twice(tmp_path):
    one, two = Output(tmp_path / "a" / "x", "the video"), Output(tmp_path / "b" / ".." / "a" / "x", "--frames")
    assert find_overlaps([one, two], []) == [f"--frames {two.path}: is also written as the video; choose another name"]


def test_what_would_be_replaced_with_its_folder(tmp_path):
    frames = Output(tmp_path / "out", "--frames", replaces_folder=True)
    inside = [Output(tmp_path / "out" / name, "the result") for name in ("x.mp4", "x.json")]
    [said] = find_overlaps([*inside, frames], [])
    assert said == f"--frames {frames.path}: would replace the result ({inside[0].path}); name another folder"
    beside = Output(tmp_path / "out.mp4", "the result")
    assert find_overlaps([beside, frames], []) == []


def test_links_that_lead_in_a_circle(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.symlink_to(b)
    b.symlink_to(a)
    assert find_overlaps([Output(a, "--out")], [Input(b, "the input")]) == []
