"""The check of incoming frames that all writers share, and their error where a file cannot be written."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from jax_interp.errors import MediaError
from jax_interp.files.disk import why_not_written
from jax_interp.media.source import RgbFrames


def check_frame_array(frames: RgbFrames, height: int, width: int) -> RgbFrames:
    """Return the frames in host memory; raises `ValueError` unless they are uint8 [F, height, width, 3]."""
    frames = np.ascontiguousarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (height, width, 3):
        raise ValueError(f"expected uint8 frames [F, {height}, {width}, 3], got {frames.dtype} {list(frames.shape)}")
    return frames


@contextmanager
def as_media_error(path: Path) -> Iterator[None]:
    """Turn errors of the disk and of PyAV into a `MediaError` that names `path`, the cause and the free space."""
    try:
        yield
    except Exception as error:
        if not _is_io_error(error):
            raise
        raise MediaError(f"{path}: {why_not_written(path, error)}") from error


@contextmanager
def discarded_on_error(path: Path, discard: Callable[[], None]) -> Iterator[None]:
    """Call `discard`, which removes what is unfinished of `path`, if anything is raised; raises as `as_media_error`."""
    try:
        with as_media_error(path):
            yield
    except BaseException:
        discard()
        raise


def _is_io_error(error: Exception) -> bool:
    if isinstance(error, OSError):
        return True
    import av.error

    return isinstance(error, av.error.FFmpegError)
