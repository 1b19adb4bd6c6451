import errno
import os
import re
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from jax_interp.errors import MediaError, UsageError
from jax_interp.files.partial import PartialOutput
from jax_interp.media.pictures.png_writer import PngWriter
from jax_interp.media.reader import open_frames
from tests.media import clips
from tests.media.clips import names


def write(folder, frames, **options):
    with PngWriter(folder, **options) as writer:
        writer.write(frames[:2])
        writer.write(frames[2:])
        assert writer.num_frames == len(frames)


def test_frames_come_back_bit_for_bit(tmp_path):
    truth = np.random.default_rng(0).integers(0, 256, (12, 17, 33, 3), np.uint8)
    write(tmp_path / "deep" / "frames", truth)
    assert names(tmp_path / "deep") == ["frames"]
    assert names(tmp_path / "deep" / "frames") == [f"{index:05d}.png" for index in range(12)]
    source = open_frames([tmp_path / "deep" / "frames"])
    assert np.array_equal(np.stack(list(source)), truth)


def test_the_folder_gets_its_name_at_the_end(tmp_path):
    with PngWriter(tmp_path / "frames") as writer:
        writer.write(clips.ramp(2))
        assert not (tmp_path / "frames").exists()
        assert names(writer.partial) == ["00000.png", "00001.png"]
        assert re.fullmatch(r"\.frames\.[0-9a-f]{12}\.part", writer.partial.name)
    assert names(tmp_path) == ["frames"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "frames").mkdir()
    write(tmp_path / "frames", clips.ramp(3))
    assert len(names(tmp_path / "frames")) == 3


def test_a_folder_with_content_is_refused_at_the_door(tmp_path):
    write(tmp_path / "frames", clips.ramp(3))
    with pytest.raises(UsageError, match="frames: is not empty; name a new folder, or allow to replace"):
        PngWriter(tmp_path / "frames")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file: is a file; name a folder"):
        PngWriter(tmp_path / "file", overwrite=True)


def test_overwriting_replaces_frames_and_nothing_else(tmp_path):
    write(tmp_path / "frames", clips.ramp(5))
    write(tmp_path / "frames", clips.ramp(3), overwrite=True)
    assert len(names(tmp_path / "frames")) == 3
    (tmp_path / "frames" / "diary.txt").write_text("dear")
    with pytest.raises(UsageError, match="frames: holds more than frames"):
        PngWriter(tmp_path / "frames", overwrite=True)
    assert len(names(tmp_path / "frames")) == 4


def test_what_appears_in_the_meantime_is_kept(tmp_path):
    writer = PngWriter(tmp_path / "frames").__enter__()
    writer.write(clips.ramp(2))
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "diary.txt").write_text("dear")
    with pytest.raises(MediaError, match=r"came in the way: .*frames: is not empty"):
        writer.__exit__(None, None, None)
    assert names(tmp_path / "frames") == ["diary.txt"]
    assert names(tmp_path) == ["frames"]


def test_what_is_called_as_unfinished_files_once_were_is_left_alone(tmp_path):
    others = tmp_path / "frames.partial"
    others.mkdir()
    (others / "00000.png").write_bytes(b"mine")
    write(tmp_path / "frames", clips.ramp(2))
    assert names(tmp_path / "frames") == ["00000.png", "00001.png"]
    assert (others / "00000.png").read_bytes() == b"mine"


def test_the_old_frames_come_back_if_the_new_ones_cannot_have_their_name(tmp_path, monkeypatch):
    write(tmp_path / "frames", clips.ramp(3))

    def fail(self):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(PartialOutput, "publish", fail)
    with pytest.raises(MediaError, match="cannot be written"):
        write(tmp_path / "frames", clips.ramp(2), overwrite=True)
    assert names(tmp_path) == ["frames"]
    assert len(names(tmp_path / "frames")) == 3


def test_a_link_to_a_folder_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", clips.ramp(2))
    assert (tmp_path / "link").is_symlink()
    assert len(names(tmp_path / "real")) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_leaves_nothing_behind(tmp_path, error):
    write(tmp_path / "frames", clips.ramp(3))

    def interrupted():
        with PngWriter(tmp_path / "frames", overwrite=True) as writer:
            writer.write(clips.ramp(1))
            raise error

    with pytest.raises(error):
        interrupted()
    assert names(tmp_path) == ["frames"]
    assert len(names(tmp_path / "frames")) == 3


def test_no_frames_are_an_error(tmp_path):
    with pytest.raises(MediaError, match="frames: no frame was written"), PngWriter(tmp_path / "frames"):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("frames", [np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.float32)])
def test_other_arrays_are_refused(tmp_path, frames):
    with pytest.raises(ValueError, match="expected uint8 frames"), PngWriter(tmp_path / "frames") as writer:
        writer.write(frames)
    assert names(tmp_path) == []


@pytest.mark.parametrize("method", ["write_bytes", "replace", "mkdir", "rename"])
def test_a_full_disk_at_any_moment(tmp_path, monkeypatch, method):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, method, full)
    with pytest.raises(MediaError) as caught:
        write(tmp_path / "frames", clips.ramp(3))
    monkeypatch.undo()
    assert "cannot be written (No space left on device)" in str(caught.value)
    assert str(tmp_path / "frames") in str(caught.value)
    assert names(tmp_path) == []


def test_every_picture_is_whole_under_its_name(tmp_path, monkeypatch):
    seen = []
    replace = Path.replace

    def watch(self, target):
        seen.append((self.name, target.name, iio.imread(self, extension=".png").shape, target.exists()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watch)
    write(tmp_path / "frames", clips.ramp(2))
    assert seen == [(f"{n:05d}.png.partial", f"{n:05d}.png", (48, 64, 3), False) for n in range(2)]
