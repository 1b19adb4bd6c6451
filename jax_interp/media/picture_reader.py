"""Pictures as frames: a folder in natural order or a list of files, decoded one at a time."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jax_interp.errors import MediaError
from jax_interp.media.source import FrameSource, Picture

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")

_CAMERA_SUFFIXES = (".jpg", ".jpeg", ".webp")
"""Where an EXIF orientation is applied. Pillow itself applies TIFF's, and looking for PNG's would decode every file."""

_QUARTER_TURNS = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""


def list_pictures(folder: Path) -> list[Path]:
    """The pictures directly in `folder`, frame2 before frame10; hidden and other files are passed over.

    Raises:
        MediaError: there is none, or the folder cannot be listed.
    """
    try:
        files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    except OSError as error:
        raise MediaError(f"{folder}: cannot list this folder: {error.strerror}") from error
    pictures = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        raise MediaError(
            f"{folder}: no pictures ({', '.join(PICTURE_SUFFIXES)}) in this folder; it holds {len(files)} other files"
        )
    return sorted(pictures, key=lambda path: _natural_key(path.name))


def open_pictures(paths: Sequence[Path], description: Mapping[str, str | int], *, at_least: int = 2) -> FrameSource:
    """A source that yields `paths` in this order.

    Sizes are compared from the file headers; pixels are decoded while iterating. Alpha is ignored, grayscale and
    palettes become RGB, 16 bits are rounded to 8, and of an animated picture the first frame counts.

    Raises:
        MediaError: fewer than `at_least` pictures, an unreadable one, or sizes that differ (names each odd one out).
    """
    if len(paths) < at_least:
        raise MediaError(f"{paths[0].parent}: holds one picture only ({paths[0].name}); at least {at_least} are needed")
    sizes = [_read_size(path) for path in paths]
    height, width = sizes[0]
    odd = [f"{path} ({size[1]}x{size[0]})" for path, size in zip(paths, sizes, strict=True) if size != sizes[0]]
    if odd:
        shown = ", ".join(odd[:10]) + (f" and {len(odd) - 10} more" if len(odd) > 10 else "")
        raise MediaError(f"pictures must have one size; {paths[0]} is {width}x{height}, but: {shown}")

    def read() -> Iterator[Picture]:
        return (_read_picture(path, (height, width)) for path in paths)

    return FrameSource(
        num_frames=len(paths),
        height=height,
        width=width,
        fps=None,
        description={**description, "frames": len(paths), "height": height, "width": width},
        read=read,
    )


def read_picture(path: Path) -> Picture:
    """One picture by itself, decoded as those of `open_pictures`; raises `MediaError` if it cannot be read."""
    if not path.is_file():
        raise MediaError(f"{path}: no such file")
    return _read_picture(path, _read_size(path))


def _natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Order by runs of digits as numbers and the rest as text; the name itself settles 1.png against 01.png."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts], name


def _open(path: Path) -> Any:
    import imageio.v3 as iio

    return iio.imopen(path, "r", plugin="pillow")


def _read_size(path: Path) -> tuple[int, int]:
    """Height and width as they will be read, from the header alone."""
    try:
        with _open(path) as file:
            height, width = file.properties(index=0).shape[:2]
            turned = path.suffix.lower() in _CAMERA_SUFFIXES and (
                file.metadata(index=0, exclude_applied=False).get("Orientation") in _QUARTER_TURNS
            )
    except Exception as error:  # picture decoders raise whatever their parser stumbles over
        raise _unreadable(path, error) from error
    return (width, height) if turned else (height, width)


def _read_picture(path: Path, size: tuple[int, int]) -> Picture:
    try:
        with _open(path) as file:
            rotate = path.suffix.lower() in _CAMERA_SUFFIXES
            if file.properties(index=0).dtype in (np.uint8, np.bool_):
                frame = file.read(index=0, mode="RGB", rotate=rotate)
            else:
                frame = _from_wide(file.read(index=0, rotate=rotate), path)
    except MediaError:
        raise
    except Exception as error:  # picture decoders raise whatever their parser stumbles over
        raise _unreadable(path, error) from error
    if frame.shape != (*size, 3):
        raise MediaError(f"{path}: decodes to {frame.shape[1]}x{frame.shape[0]}, expected {size[1]}x{size[0]}")
    return np.ascontiguousarray(frame)


def _from_wide(gray: np.ndarray, path: Path) -> Picture:
    """16-bit grayscale as RGB, rounded to the nearest of 256 levels."""
    if gray.dtype != np.uint16:
        raise MediaError(
            f"{path}: holds {gray.dtype} values, whose range is unknown; save it with 8 or 16 bits a channel"
        )
    levels = ((gray.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=-1)


def _unreadable(path: Path, error: Exception) -> MediaError:
    return MediaError(f"{path}: cannot be read as a picture ({str(error) or type(error).__name__}); replace the file")
