"""The opening of inputs: a video, a folder of frames, or pictures, told apart and checked before anything runs."""

import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from jax_interp.errors import MediaError, UsageError
from jax_interp.media.pictures.animation import open_animation
from jax_interp.media.pictures.header import is_picture, read_header
from jax_interp.media.pictures.pixels import Background
from jax_interp.media.pictures.reader import list_pictures, open_pictures, read_picture, warn_of_order
from jax_interp.media.pictures.suffixes import PICTURE_SUFFIXES
from jax_interp.media.read_settings import ReadSettings
from jax_interp.media.source import FrameSource, Picture
from jax_interp.media.video.reader import DEFAULT_READING, open_video

_PATTERN = re.compile(r"%0?[0-9]*[di]|[*?]|\[.+\]|\{.+\}|#{2,}|@{2,}")
"""Patterns that FFmpeg, shells and compositing programs use for many files: frame%04d.png, *.png, frame.####.png."""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)


def open_frames(
    inputs: Sequence[Path],
    reading: ReadSettings = DEFAULT_READING,
    *,
    at_least: int = 2,
    background: Background = "black",
) -> FrameSource:
    """Open a clip: one video or animation, one folder of pictures (in natural order of their names), or pictures.

    The sizes of all pictures, and a video's length and first frame, are checked here; the frames are read by iterating.
    `reading` says how HDR and interlaced videos are read. Transparent parts are laid over `background`.

    Raises:
        UsageError: no input, or a mix of videos, folders and pictures.
        MediaError: a file is missing, unreadable or damaged, sizes differ, or there are fewer than `at_least` frames.
    """
    paths = [Path(path) for path in inputs]
    if not paths:
        raise UsageError("--input: give one video, one folder of frames, or two or more pictures")
    faults = _find_faults(paths)
    if faults:
        raise MediaError(faults)
    if len(paths) == 1:
        return _open_one(paths[0], at_least, reading, background)
    others = [str(path) for path in paths if path.is_dir() or not _is_called_or_is_picture(path)]
    if others:
        raise UsageError(
            f"--input: of several inputs each must be a picture (PNG, JPEG, WebP, TIFF or BMP), which is not so for"
            f" {', '.join(others)}; give one video, one folder of frames, or two or more pictures"
            " (`generate` and `video2world` take several clips, one a line of a file: --batch-input-path)"
        )
    warn_of_order(paths)
    return open_pictures(paths, {"kind": "pictures", "path": ", ".join(map(str, paths))}, background=background)


def last_frame(inputs: Sequence[Path]) -> Picture:
    """Return the last frame of a clip that `open_frames` takes, or a single picture; other frames are not kept.

    Raises:
        UsageError, MediaError: as `open_frames`.
    """
    paths = [Path(path) for path in inputs]
    if len(paths) == 1 and is_picture(paths[0]) and not read_header(paths[0]).animated:
        return read_picture(paths[0])
    [last] = deque(open_frames(paths, at_least=1), maxlen=1)
    return last


def _open_one(path: Path, at_least: int, reading: ReadSettings, background: Background) -> FrameSource:
    if path.is_dir():
        kind = {"kind": "folder", "path": str(path)}
        return open_pictures(list_pictures(path), kind, at_least=at_least, background=background)
    if is_picture(path):
        return _open_picture(path, at_least, background)
    try:
        return open_video(path, at_least=at_least, reading=reading, background=background)
    except MediaError:
        if path.suffix.lower() in PICTURE_SUFFIXES:
            read_header(path)  # raises: it is no picture either
        raise


def _open_picture(path: Path, at_least: int, background: Background) -> FrameSource:
    header = read_header(path)
    if header.animated:
        return open_animation(path, header, background)
    if at_least == 1:
        return open_pictures([path], {"kind": "pictures", "path": str(path)}, at_least=1, background=background)
    raise MediaError(
        f"{path}: one picture; interpolation needs at least two frames: give a second picture, a folder or a video"
    )


def _is_called_or_is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES or is_picture(path)


def _find_faults(paths: Sequence[Path]) -> str:
    """Return why some paths cannot be read, paths with the same fault together; "" if all are there."""
    faults: dict[str, list[str]] = {}
    for path in paths:
        fault = _find_fault(path)
        if fault:
            faults.setdefault(fault, []).append(str(path))
    return "; ".join(f"{', '.join(named)}: {fault}" for fault, named in faults.items())


def _find_fault(path: Path) -> str | None:
    """Return why nothing can be read from a path, and what to give instead."""
    try:
        if path.exists():
            return _find_fault_of_existing(path)
        if path.is_symlink():
            return f"is a link to {path.readlink()}, which is not there"
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
    if _ADDRESS.match(str(path)):
        return "is an address; download it, and give the file"
    if _PATTERN.search(str(path)):
        return (
            "is a pattern, not a file; give the folder of the pictures, or two or more files"
            " (a shell fills in *.png where it is not quoted)"
        )
    return "no such file or folder"


def _find_fault_of_existing(path: Path) -> str | None:
    if path.is_dir():
        return None
    if not path.is_file():
        return "is no regular file, and input is read more than once; save it as a file, and give that"
    return "is empty (0 bytes); replace it" if path.stat().st_size == 0 else None
