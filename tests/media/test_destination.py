"""A file that a command is told to write."""

import os

import imageio.v3 as iio
import numpy as np
import pytest

from jax_interp.errors import MediaError, UsageError
from jax_interp.files.overlap import Input
from jax_interp.files.partial import PartialOutput
from jax_interp.media.destination import (
    MAX_SHOWN,
    check_destination,
    clip_files,
    locked_result,
    pictures_in,
    refuse,
    refuse_locked,
)
from tests.media.clips import names


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("0.png", "1.png"):
        iio.imwrite(folder / name, np.zeros((4, 4, 3), np.uint8))
    (folder / "notes.txt").write_text("mine")
    return folder


def check(path, read=(), overwrite=False):
    check_destination(path, "--out", read, overwrite=overwrite)


def test_a_new_file(tmp_path, pictures):
    check(tmp_path / "new.mp4", clip_files([pictures], "the input"))
    check(tmp_path / "none" / "new.mp4")
    assert names(tmp_path) == ["pictures"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_read_is_never_replaced(pictures, overwrite):
    with pytest.raises(UsageError, match=r"--out .*1\.png: is the input \(.*pictures\); choose another name"):
        check(pictures / "1.png", clip_files([pictures], "the input"), overwrite)
    with pytest.raises(UsageError, match=r"is the input \(.*0\.png\)"):
        check(pictures / "0.png", clip_files([pictures / "0.png"], "the input"), overwrite)


def test_what_is_there_is_replaced_only_when_told(tmp_path):
    (tmp_path / "x.txt").write_text("mine")
    (tmp_path / "y.txt").symlink_to(tmp_path / "none")
    for name in ("x.txt", "y.txt"):
        with pytest.raises(UsageError, match=f"--out .*{name}: is there already; .*--overwrite"):
            check(tmp_path / name)
        check(tmp_path / name, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_no_folder_and_no_device(tmp_path, overwrite):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/null", "/dev/full"):
        with pytest.raises(UsageError, match="is a folder or a device, where a file is to be written"):
            check(tmp_path / path, overwrite=overwrite)


def test_names_that_are_too_long_for_what_is_written_beside_them(tmp_path):
    check(tmp_path / ("x" * 232 + ".mp4"))
    with pytest.raises(UsageError, match=r"--out: x+… has 233 bytes, 1 more than there is room for"):
        check(tmp_path / ("x" * 233 + ".mp4"))


def test_only_what_is_read_of_a_folder_counts(pictures):
    assert pictures_in(pictures) == [pictures / "0.png", pictures / "1.png"]
    assert clip_files([pictures], "the input") == [Input(pictures, "the input", files=pictures_in(pictures))]
    check(pictures / "notes.txt", clip_files([pictures], "the input"), overwrite=True)


def test_a_folder_without_pictures(tmp_path):
    assert pictures_in(tmp_path) == []


def test_held_against_others(tmp_path):
    path = tmp_path / "new" / "x.mp4"
    with locked_result(path):
        said = rf"x\.mp4: is being written by another run \(process {os.getpid()} on .* since .* UTC\); wait"
        with pytest.raises(MediaError, match=said), locked_result(path):
            pass
        with pytest.raises(MediaError, match=said):
            refuse_locked(path)
        with pytest.raises(MediaError, match=said):
            check(path)
        with locked_result(path.with_name("y.mp4")):
            pass
    refuse_locked(path)
    assert names(path.parent) == []


def test_leftovers_are_removed_by_who_holds_the_name(tmp_path):
    for name in ("x.mp4", "y.mp4"):
        PartialOutput(tmp_path / name).path.write_bytes(b"half")
    with locked_result(tmp_path / "x.mp4"):
        assert [name[:7] for name in names(tmp_path) if name.endswith(".part")] == [".y.mp4."]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(MediaError, match=r"x\.mp4: cannot be written .* choose another place"),
        locked_result(tmp_path / "file/x.mp4"),
    ):
        pass


def test_faults_are_named_up_to_a_number():
    refuse([])
    with pytest.raises(UsageError) as error:
        refuse([f"fault {number}" for number in range(MAX_SHOWN + 3)])
    assert str(error.value).splitlines() == [*(f"fault {number}" for number in range(MAX_SHOWN)), "and 3 more"]
