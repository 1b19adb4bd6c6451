"""The door for input: one video, one folder of frames, or pictures, told apart and checked before anything runs."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from jax_interp.errors import MediaError, UsageError
from jax_interp.media.picture_reader import PICTURE_SUFFIXES, list_pictures, open_pictures, read_picture
from jax_interp.media.source import FrameSource, Picture
from jax_interp.media.video_reader import open_video


def open_frames(inputs: Sequence[Path], *, at_least: int = 2) -> FrameSource:
    """Open a clip: one video file, one folder of pictures (in natural order of their names), or pictures.

    The sizes of all pictures, and a video's length and first frame, are checked here; the frames are read by iterating.

    Raises:
        UsageError: no input, or a mix of videos, folders and pictures.
        MediaError: a file is missing, unreadable or damaged, sizes differ, or there are fewer than `at_least` frames.
    """
    paths = [Path(path) for path in inputs]
    if not paths:
        raise UsageError("--input: give one video, one folder of frames, or two or more pictures")
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise MediaError(f"{', '.join(missing)}: no such file or folder")
    if len(paths) == 1:
        return _open_one(paths[0], at_least)
    others = [str(path) for path in paths if path.is_dir() or path.suffix.lower() not in PICTURE_SUFFIXES]
    if others:
        raise UsageError(
            f"--input: of several inputs each must be a picture ({', '.join(PICTURE_SUFFIXES)}), which is not so for"
            f" {', '.join(others)}; give one video, one folder of frames, or two or more pictures"
        )
    return open_pictures(paths, {"kind": "pictures", "path": ", ".join(map(str, paths))})


def last_frame(inputs: Sequence[Path]) -> Picture:
    """The last frame of a clip that `open_frames` takes, or a single picture; nothing else is kept of it.

    Raises:
        UsageError, MediaError: as `open_frames`.
    """
    if len(inputs) == 1 and Path(inputs[0]).suffix.lower() in PICTURE_SUFFIXES and not Path(inputs[0]).is_dir():
        return read_picture(Path(inputs[0]))
    [last] = deque(open_frames(inputs), maxlen=1)
    return last


def _open_one(path: Path, at_least: int) -> FrameSource:
    if path.is_dir():
        return open_pictures(list_pictures(path), {"kind": "folder", "path": str(path)}, at_least=at_least)
    if path.suffix.lower() in PICTURE_SUFFIXES and at_least == 1:
        return open_pictures([path], {"kind": "pictures", "path": str(path)}, at_least=1)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        raise MediaError(
            f"{path}: one picture; interpolation needs at least two frames: give a second picture, a folder or a video"
        )
    return open_video(path, at_least=at_least)
