"""The header of a picture file, read before its pixels are decoded; its content decides, not its name."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from jax_interp.errors import MediaError
from jax_interp.media.source import MAX_PIXELS

MAX_BYTES = 1 << 30
"""The largest picture file in bytes; decoders read the whole file into memory."""

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
"""The decoders of Pillow that may read a file, whatever else is installed."""

_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")

_MAX_CHUNKS = 1_000_000
_ORIENTATION, _BITS_A_SAMPLE = 0x0112, 258


@dataclass(frozen=True)
class PictureHeader:
    """The header of a picture. Height and width are those of the upright picture, in pixels."""

    height: int
    width: int
    orientation: int
    """The EXIF orientation of the decoded pixels, from 1 (upright) to 8."""
    num_pictures: int
    """The number of pictures; more than 1 for an animation, and 2 for every file with several pages."""
    num_frames: int
    """The number of pictures shown one after the other: 1 for a file with pages, without the still picture of a PNG."""
    format: str
    """Pillow's name of the format, as "PNG"."""
    is_16_bit: bool
    """Whether channels have 16 bits, in a form that Pillow would cut to 8."""

    @property
    def animated(self) -> bool:
        return self.num_frames > 1


def is_picture(path: Path) -> bool:
    """Tell whether a file begins like PNG, JPEG, WebP, TIFF or BMP; False if it cannot be read or is not regular."""
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            return False
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head.startswith(_SIGNATURES) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


def read_header(path: Path) -> PictureHeader:
    """Read a picture's header; raises `MediaError` if it is no picture, empty, or larger than allowed."""
    try:
        if path.exists() and not path.is_file():
            raise MediaError(f"{path}: is no regular file; replace it with one")
        size = path.stat().st_size
        if size == 0:
            raise MediaError(f"{path}: is empty (0 bytes); replace the file, or take it out")
        if size > MAX_BYTES:
            raise MediaError(f"{path}: has {size:,} bytes; a picture may have {MAX_BYTES:,}, so save it compressed")
        with opened(path) as image:
            return _header(path, image)
    except MediaError:
        raise
    except Exception as error:  # picture decoders raise whatever their parser stumbles over
        raise unreadable(path, error) from error


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Yield a `PIL.Image.Image` whose pixels are not decoded yet; it is closed when the block ends."""
    from PIL import Image

    with warnings.catch_warnings():
        # Sizes are judged here; what Pillow warns of is above them.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(path, formats=_FORMATS)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise MediaError(f"{path}: {too_large()}") from error
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise MediaError(f"{path}: is {image.width}x{image.height}; {too_large()}")
        yield image


def too_large() -> str:
    return f"a picture may have {MAX_PIXELS:,} pixels at most; make it smaller"


def unreadable(path: Path, error: Exception) -> MediaError:
    return MediaError(f"{path}: cannot be read as a picture ({str(error) or type(error).__name__}); replace the file")


def _header(path: Path, image: Any) -> PictureHeader:
    orientation, is_16_bit, num_pictures, num_frames = 1, False, 1, 1
    if image.format == "TIFF":
        is_16_bit = 16 in tuple(image.tag_v2.get(_BITS_A_SAMPLE, ())) and not image.mode.startswith("I;16")
        # Pillow turns these itself; 16-bit colours are decoded elsewhere.
        orientation = _sensible(image.tag_v2.get(_ORIENTATION)) if is_16_bit else 1
        num_pictures = 1 + _has_second_page(image)
        height, width = image.height, image.width
    else:
        if image.format == "PNG":
            with path.open("rb") as file:
                is_16_bit = _read_at(file, 24, 1) == b"\x10"
                if _has_late_metadata(file):
                    image.load()
        if image.format in ("PNG", "WEBP"):
            num_pictures = getattr(image, "n_frames", 1)
            num_frames = num_pictures - bool(getattr(image, "default_image", False))
        orientation = _orientation(image)
        height, width = image.height, image.width
        if orientation >= 5:
            height, width = width, height
    return PictureHeader(height, width, orientation, num_pictures, num_frames, image.format, is_16_bit)


def _orientation(image: Any) -> int:
    """Return the orientation from EXIF or XMP, wherever Pillow finds one; 1 where it is missing or makes no sense."""
    from PIL import Image

    try:
        # PNG's own version decodes the picture first, in case that metadata follows the pixels.
        found = Image.Image.getexif(image).get(_ORIENTATION)
    except Exception:  # damaged metadata, which every viewer passes over
        return 1
    return _sensible(found)


def _sensible(orientation: Any) -> int:
    return orientation if isinstance(orientation, int) and 2 <= orientation <= 8 else 1


def _has_second_page(image: Any) -> bool:
    try:
        image.seek(1)
    except EOFError:
        return False
    image.seek(0)
    return True


def _has_late_metadata(file: BinaryIO) -> bool:
    """Tell whether a PNG has EXIF or text behind its pixels; only the chunks' headers are read."""
    at, pixels = 8, False
    for _ in range(_MAX_CHUNKS):
        header = _read_at(file, at, 8)
        if len(header) < 8:
            return False
        length, kind = struct.unpack(">I4s", header)
        if pixels and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
            return True
        pixels |= kind == b"IDAT"
        at += 12 + length
    return False


def _read_at(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)
