"""Only files that were uploaded are taken, under names of our own."""

import os
import time
from pathlib import Path

import pytest

from jax_interp.app.results import JobFolder
from jax_interp.app.uploads import (
    clip_name,
    is_upload,
    printable,
    remove_abandoned,
    store_inputs,
    take_uploads,
)
from jax_interp.errors import UsageError
from jax_interp.files.below import size_below


@pytest.fixture
def uploads(tmp_path):
    folder = tmp_path / "uploads" / "0123"
    folder.mkdir(parents=True)
    (folder / "clip.mp4").write_bytes(b"12345")
    return folder.parent


def test_an_upload_is_taken(uploads):
    assert take_uploads([str(uploads / "0123/clip.mp4")], uploads, 5) == [uploads / "0123/clip.mp4"]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/etc/hostname.mp4",
        "{uploads}/0123/../../secret.mp4",
        "{uploads}/0123/link.mp4",
        "{uploads}/0123",
        "{uploads}/0123/none.mp4",
        "clip.mp4",
        "",
        "http://example.com/clip.mp4",
        "{uploads}/0123/clip.mp4\0.txt",
        "x" * 5000,
    ],
)
def test_nothing_else_is(uploads, path):
    (uploads.parent / "secret.mp4").write_bytes(b"secret")
    (uploads / "0123/link.mp4").symlink_to(uploads.parent / "secret.mp4")
    path = path.format(uploads=uploads)
    assert not is_upload(path, uploads)
    with pytest.raises(UsageError, match="not a file that was uploaded here") as caught:
        take_uploads([path], uploads, 100)
    assert str(uploads) not in str(caught.value)


@pytest.mark.parametrize("paths", [None, "clip.mp4", {"path": "clip.mp4"}, [None], [3], [["a"]]])
def test_wrong_types_are_refused(uploads, paths):
    with pytest.raises(UsageError, match="expected a list of uploaded files"):
        take_uploads(paths, uploads, 100)
    assert not is_upload(paths, uploads)


def test_too_large_too_many_none_and_other_kinds(uploads):
    clip = str(uploads / "0123/clip.mp4")
    (uploads / "0123/run.sh").write_bytes(b"rm")
    for paths, most, message in (
        ([clip], 4, "MB are taken at most"),
        ([clip] * 201, 10**6, "201 files: 200 are taken"),
        ([], 10, "nothing is uploaded"),
        ([str(uploads / "0123/run.sh")], 10, r"run\.sh: expected a video or pictures"),
    ):
        with pytest.raises(UsageError, match=message):
            take_uploads(paths, uploads, most)


def test_in_a_jobs_folder_they_have_plain_names(uploads, tmp_path):
    hostile = uploads / "0123" / "$(rm -rf x);<b>.MP4"
    hostile.write_bytes(b"1")
    folder = JobFolder(tmp_path / "job")
    assert store_inputs([uploads / "0123/clip.mp4", hostile], folder) == ["000.mp4", "001.mp4"]
    assert (folder.inputs / "000.mp4").read_bytes() == b"12345"
    assert (folder.path.stat().st_mode & 0o777) == 0o700


def test_two_jobs_may_have_the_same_upload(uploads, tmp_path):
    clip = uploads / "0123/clip.mp4"
    store_inputs([clip], JobFolder(tmp_path / "a"))
    store_inputs([clip], JobFolder(tmp_path / "b"))
    clip.unlink()
    assert (tmp_path / "a/input/000.mp4").read_bytes() == (tmp_path / "b/input/000.mp4").read_bytes() == b"12345"


def test_names_are_shown_on_one_line():
    assert printable("a\nb\x1b[31m\u202e.mp4") == "a?b?[31m?.mp4"
    assert len(printable("x" * 500)) == 80
    assert clip_name([Path("a.mp4")]) == "a.mp4"
    assert clip_name([Path("a.png"), Path("b.png")]) == "2 pictures"


def test_uploads_of_which_no_job_was_made_go_after_a_while(uploads):
    clip = uploads / "0123/clip.mp4"
    assert size_below(uploads) == 5
    remove_abandoned(uploads)
    assert clip.exists()
    long_ago = time.time() - 7200
    os.utime(clip, (long_ago, long_ago))
    remove_abandoned(uploads)
    assert size_below(uploads) == 0
    os.utime(uploads / "0123", (long_ago, long_ago))
    remove_abandoned(uploads)
    assert list(uploads.iterdir()) == []
