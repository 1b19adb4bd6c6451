"""What a decoded frame tells about its video: how its colours are to be read, interlacing, and transparency."""

from dataclasses import dataclass
from typing import Any

PQ, HLG = 16, 18
"""The codes of ITU-T H.273 for the transfer functions of HDR."""

UNSPECIFIED = 2
"""Its code for a colour matrix that is not stated."""

_NAMES = {0: "RGB", 1: "BT.709", 4: "FCC", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M", 9: "BT.2020", 10: "BT.2020"}
_JPEG_CODECS = ("mjpeg", "jpeg2000", "jpegls")

_SD_WIDTH, _SD_HEIGHT = 1280, 576
"""Pictures that are narrower than this, and not higher, are SD: the rule of common players."""


@dataclass(frozen=True)
class Traits:
    """How a video's frames are to be read."""

    untagged_matrix: str | None
    """libswscale's name of the colour matrix to read them by, where they do not say it themselves."""
    colors: str
    """The colour matrix in words."""
    hdr: str | None
    """The name of an HDR transfer function."""
    is_interlaced: bool
    has_alpha: bool


def traits_of(frame: Any, codec: str) -> Traits:
    """Return the traits of a video with the codec `codec` (FFmpeg's name), of which `frame` is the first frame.

    Without a tag, HD is read as BT.709 and SD as BT.601, and JPEG as BT.601 whatever its size.
    """
    pixels = frame.format
    is_yuv = not (pixels.is_rgb or pixels.has_palette) and len(pixels.components) >= 3
    untagged = is_yuv and int(frame.colorspace) == UNSPECIFIED
    transfer = {PQ: "PQ", HLG: "HLG"}.get(int(frame.color_trc))
    matrix = None
    if untagged:
        is_hd = (frame.width >= _SD_WIDTH or frame.height > _SD_HEIGHT) and codec not in _JPEG_CODECS
        matrix = "bt2020" if transfer else "bt709" if is_hd else "bt601"
    return Traits(
        matrix,
        _in_words(frame, matrix, is_yuv),
        transfer,
        bool(frame.interlaced_frame),
        any(component.is_alpha for component in pixels.components),
    )


def _in_words(frame: Any, matrix: str | None, is_yuv: bool) -> str:
    if not is_yuv:
        return "RGB" if frame.format.is_rgb or frame.format.has_palette else "gray"
    if matrix is None:
        return _NAMES.get(int(frame.colorspace), "BT.601")
    said = {"bt709": "BT.709, as HD is", "bt601": "BT.601, as SD is", "bt2020": "BT.2020, as HDR is"}[matrix]
    return f"not tagged, read as {said}"
