"""A reader of pictures as frames: a folder in natural order or a list of files, decoded one at a time."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jax_interp.errors import MediaError
from jax_interp.media.pictures.header import PictureHeader, is_picture, read_header, unreadable
from jax_interp.media.pictures.pixels import Background, read_pixels, report_transparency
from jax_interp.media.pictures.suffixes import PICTURE_SUFFIXES
from jax_interp.media.source import FrameSource, Picture

logger = logging.getLogger("jax_interp")

_OTHER_SUFFIXES = (".apng", ".avif", ".cin", ".dpx", ".exr", ".gif", ".hdr", ".heic", ".heif", ".ico", ".j2k", ".jp2")
_OTHER_SUFFIXES += (".jxl", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".qoi", ".sgi", ".svg", ".tga")
"""Pictures of other kinds. A folder that holds one would lack a frame if it were passed over."""


def list_pictures(folder: Path) -> list[Path]:
    """List the pictures directly in `folder`, frame2 before frame10, without hidden files and other files.

    Raises:
        MediaError: there is none, one is empty, of a kind that is not read or a link to nothing (names each), or the
            folder cannot be listed.
    """
    try:
        entries = [path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir()]
    except OSError as error:
        raise MediaError(f"{folder}: cannot list this folder: {error.strerror}") from error
    entries.sort(key=lambda path: _natural_key(path.name))
    called = PICTURE_SUFFIXES + _OTHER_SUFFIXES
    frames = [path for path in entries if path.suffix.lower() in called]
    faults = [f"{path.name} ({fault})" for path in frames if (fault := _find_fault(path))]
    if faults:
        raise MediaError(
            f"{folder}: would lack frames: {_shorten(faults)};"
            " replace them, convert them to PNG, or move them elsewhere"
        )
    if not frames:
        raise MediaError(
            f"{folder}: no pictures ({', '.join(PICTURE_SUFFIXES)}) in this folder; it holds {len(entries)} other files"
        )
    left_out = [path.name for path in entries if path.suffix.lower() not in called and is_picture(path)]
    if left_out:
        logger.warning("%s: pictures that are not called so are left out: %s", folder, _shorten(left_out))
    return frames


def open_pictures(
    paths: Sequence[Path],
    description: Mapping[str, str | int],
    *,
    at_least: int = 2,
    background: Background = "black",
) -> FrameSource:
    """Open pictures as a source that yields `paths` in this order, upright and as RGB (`pixels.read_pixels`).

    Sizes are compared from the file headers; pixels are decoded while iterating. It is logged if there are transparent
    parts, and if only the first picture of an animation or of several pages is used.

    Raises:
        MediaError: fewer than `at_least` pictures, an unreadable or too large one, or sizes that differ (names each odd
            one out).
    """
    if len(paths) < at_least:
        raise MediaError(f"{paths[0].parent}: holds one picture only ({paths[0].name}); at least {at_least} are needed")
    headers = [read_header(path) for path in paths]
    sizes = [(header.height, header.width) for header in headers]
    height, width = sizes[0]
    odd = [f"{path} ({size[1]}x{size[0]})" for path, size in zip(paths, sizes, strict=True) if size != sizes[0]]
    if odd:
        raise MediaError(f"pictures must have one size; {paths[0]} is {width}x{height}, but: {_shorten(odd)}")
    several = [str(path) for path, header in zip(paths, headers, strict=True) if header.num_pictures > 1]
    if several:
        logger.warning("animated or of several pages, only the first picture is used: %s", _shorten(several))

    def read() -> Iterator[Picture]:
        said = False
        for path, header in zip(paths, headers, strict=True):
            frame, transparent = _read_picture(path, header, background)
            if transparent and not said:
                said = True
                report_transparency(path, background)
            yield frame

    return FrameSource(
        num_frames=len(paths),
        height=height,
        width=width,
        fps=None,
        description={**description, "frames": len(paths), "height": height, "width": width},
        read=read,
    )


def read_picture(path: Path) -> Picture:
    """Read one picture, decoded as those of `open_pictures`; raises `MediaError` if it cannot be read."""
    if not path.is_file():
        raise MediaError(f"{path}: no such file")
    frame, transparent = _read_picture(path, read_header(path))
    if transparent:
        report_transparency(path)
    return frame


def _find_fault(path: Path) -> str | None:
    """Return why a file that is called a picture cannot be a frame."""
    if not path.exists():
        return f"a link to {path.readlink()}, which is not there" if path.is_symlink() else "not there any more"
    if not path.is_file():
        return "no regular file"
    if path.stat().st_size == 0:
        return "empty"
    if path.suffix.lower() in _OTHER_SUFFIXES and not is_picture(path):
        return "a kind that is not read"
    return None


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def warn_of_order(paths: Sequence[Path]) -> None:
    """Warn if pictures that are named one by one come in the alphabet's order and not in that of their numbers.

    So a shell writes out `frame*.png`: frame10 comes before frame2.
    """
    by_number = sorted(paths, key=lambda path: _natural_key(str(path)))
    if list(paths) != by_number and list(paths) == sorted(paths, key=str):
        first = next(index for index, path in enumerate(paths) if path != by_number[index])
        logger.warning(
            "%s comes before %s: pictures that are named one by one are joined in the order in which they are given;"
            " their folder in place of them, or names with zeros (002), join them in the order of their numbers",
            paths[first],
            by_number[first],
        )


def _natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Order by runs of digits as numbers and the rest as text; the name itself settles 1.png against 01.png."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts], name


def _read_picture(path: Path, header: PictureHeader, background: Background = "black") -> tuple[Picture, bool]:
    """Return the frame, and whether any of it is transparent."""
    try:
        frame, transparent = read_pixels(path, header, background)
    except MediaError:
        raise
    except Exception as error:  # picture decoders raise whatever their parser stumbles over
        raise unreadable(path, error) from error
    if frame.shape != (header.height, header.width, 3):
        expected = f"{header.width}x{header.height}"
        raise MediaError(f"{path}: decodes to {frame.shape[1]}x{frame.shape[0]}, expected {expected}")
    return frame, transparent
