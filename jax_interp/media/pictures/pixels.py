"""The decoding of a picture's pixels to upright RGB with 8 bits a channel."""

import logging
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from jax_interp.errors import MediaError
from jax_interp.media.pictures.header import PictureHeader, opened
from jax_interp.media.source import Picture

logger = logging.getLogger("jax_interp")

_DEEP_CHANNELS = {"gray16": 1, "ya16": 2, "rgb48": 3, "rgba64": 4}
"""The channels of FFmpeg's formats with 16 bits a channel, named without their byte order."""


Background: TypeAlias = Literal["black", "white"]
"""What transparent parts of a picture are laid over."""


def read_pixels(path: Path, header: PictureHeader, background: Background = "black") -> tuple[Picture, bool]:
    """Decode a picture, or an animation's first one.

    Palettes and gray become RGB, and 16 bits are rounded to the nearest of 256 levels. What is transparent, by an alpha
    channel, by a palette's entries or by one colour that stands for it, is composited over `background`: the colours
    stored there were never meant to be seen.

    Returns:
        The frame, and whether any of it is transparent.

    Raises:
        MediaError: the range of the values is unknown.
        Exception: the file is damaged; decoders raise whatever they stumble over.
    """
    with opened(path) as image:
        if header.is_16_bit:
            image.load()
            frame, transparent = _deep_pixels(path, image, header, background)
        elif image.mode.startswith("I;16"):
            frame, transparent = to_eight_bits(np.asarray(image)[..., None]), False
        else:
            frame, transparent = to_rgb(path, image, background)
            frame = apply_orientation(frame, header.orientation)
    return np.ascontiguousarray(frame), transparent


def to_rgb(path: Path, image: Any, background: Background = "black") -> tuple[Picture, bool]:
    """Return an image of 8 bits a channel as RGB without orienting it, and whether any of it is transparent."""
    if image.mode in ("F", "I"):
        raise MediaError(
            f"{path}: holds {np.asarray(image).dtype} values, whose range is unknown;"
            " save it with 8 or 16 bits a channel"
        )
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB")), False
    rgba = np.asarray(image.convert("RGBA"))
    return COMPOSITE[background](rgba[..., :3], rgba[..., 3:], 255)


def apply_orientation(frame: np.ndarray, orientation: int) -> np.ndarray:
    """Return the frame [Y, X, 3] upright, given its EXIF orientation of 1 to 8."""
    if orientation >= 5:
        frame = frame.transpose(1, 0, 2)
    flip_y, flip_x = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return frame[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


def _deep_pixels(path: Path, image: Any, header: PictureHeader, background: Background) -> tuple[Picture, bool]:
    """Decode 16 bits a channel with FFmpeg; Pillow, which keeps the upper 8, has to agree within a level."""
    values = apply_orientation(_decode_deep(path, header.format), header.orientation)
    colors = values[..., :1] if values.shape[-1] < 3 else values[..., :3]
    frame = to_eight_bits(colors)
    gray = image.mode.startswith("I")
    known = np.asarray(image)[..., None].astype(np.int64) >> 8 if gray else np.asarray(image.convert("RGB"))
    if header.format == "PNG":  # Pillow turns a TIFF itself
        known = apply_orientation(known, header.orientation)
    if known.shape[:2] != frame.shape[:2] or np.abs(frame.astype(np.int16) - known).max(initial=0) > 1:
        raise MediaError(f"{path}: two decoders read different colours in it; save it as PNG")
    if values.shape[-1] in (1, 3) or not image.has_transparency_data:  # a fourth channel may be padding
        return frame, False
    over, transparent = COMPOSITE[background](colors, values[..., -1:], 65535)
    return to_eight_bits(over), transparent


def _decode_deep(path: Path, name: str) -> np.ndarray:
    """Return the channels of a PNG or TIFF as native uint16 [Y, X, 1 to 4]."""
    import av

    decoder: Any = av.CodecContext.create(name.lower(), "r")
    [frame] = [*decoder.decode(av.Packet(path.read_bytes())), *decoder.decode(None)]
    name, order = frame.format.name[:-2], {"be": ">u2", "le": "<u2"}.get(frame.format.name[-2:])
    channels = _DEEP_CHANNELS.get(name)
    if order is None or channels is None:
        raise MediaError(f"{path}: holds {frame.format.name} values, which are not read; save it as PNG")
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : 2 * channels * frame.width]
    values = np.ascontiguousarray(rows).view(order).reshape(frame.height, frame.width, channels)
    return values.astype(np.uint16)


def to_eight_bits(values: np.ndarray) -> Picture:
    """Round 16-bit values to the nearest of 256 levels, as RGB: 0x12FF becomes 19."""
    levels = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.broadcast_to(levels, (*levels.shape[:2], 3))


def composite_over_black(colors: np.ndarray, alpha: np.ndarray, opaque: int) -> tuple[np.ndarray, bool]:
    """Composite colours [Y, X, C] over black, in their dtype; also tells whether any alpha is below `opaque`."""
    if bool((alpha == opaque).all()):
        return colors, False
    over = (colors.astype(np.uint32) * alpha + opaque // 2) // opaque
    return over.astype(colors.dtype), True


def composite_over_white(colors: np.ndarray, alpha: np.ndarray, opaque: int) -> tuple[np.ndarray, bool]:
    """Composite colours [..., Y, X, C] over white, as `composite_over_black` does over black."""
    if bool((alpha == opaque).all()):
        return colors, False
    # parity: truncated, as upstream's Video2World does.
    share = alpha / opaque
    return (colors * share + opaque * (1 - share)).astype(colors.dtype), True


COMPOSITE = {"black": composite_over_black, "white": composite_over_white}


def report_transparency(path: Path, background: Background = "black") -> None:
    logger.warning("%s has transparent parts; they are laid over %s", path, background)
