"""Pixel formats and colour matrices, converted by libswscale with its accurate settings."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from jax_interp.media.video.traits import HLG, PQ, UNSPECIFIED

BT709, LIMITED_RANGE = 1, 1
"""The code of ITU-T H.273 for BT.709 primaries, transfer and matrix, and FFmpeg's code for the range 16 to 235."""

_ACCURATE = "flags=bicubic+accurate_rnd+full_chroma_int"
"""Options of libswscale. Without them yuv420p comes out one level too dark and with chroma in blocks: 35, not 50 dB."""

_TONE_MAPPED = ":out_primaries=bt709:out_transfer=bt709:intent=perceptual"
"""What makes libswscale map the brightness and the colours of HDR into those of BT.709."""


@dataclass(frozen=True)
class Target:
    """The pixel format and colour matrix to convert to."""

    pixel_format: str
    bt709: bool
    """Whether frames are converted to, and tagged as, BT.709 in limited range; for YUV formats."""


RGB, RGBA = Target("rgb24", bt709=False), Target("rgba", bt709=False)


class ColorConverter:
    """Converts frames to one target; the source's format, matrix and range are read from each frame.

    PQ and HLG are tone-mapped to BT.709. `untagged_matrix` is the matrix, by libswscale's name, of frames that state
    none; None leaves it to libswscale, which takes BT.601.
    """

    def __init__(self, target: Target, untagged_matrix: str | None = None):
        self._target, self._untagged_matrix = target, untagged_matrix
        self._source: tuple[Any, ...] | None = None
        self._graph: Any = None

    def convert(self, frame: Any) -> Any:
        """Return the `av.VideoFrame` converted to the target."""
        source = (frame.width, frame.height, frame.format.name, *_colors(frame))
        if source != self._source:
            self._graph, self._source = self._build(frame), source
        self._graph.push(frame)
        converted = self._graph.pull()
        if self._target.bt709:
            converted.colorspace, converted.color_range = BT709, LIMITED_RANGE
        return converted

    def _build(self, frame: Any) -> Any:
        import av.filter

        graph = av.filter.Graph()
        options = _ACCURATE + (":out_color_matrix=bt709:out_range=tv" if self._target.bt709 else "")
        if self._untagged_matrix is not None and int(frame.colorspace) == UNSPECIFIED:
            options += f":in_color_matrix={self._untagged_matrix}"
        if int(frame.color_trc) in (PQ, HLG):
            options += _TONE_MAPPED
        nodes = [
            graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format.name, time_base=Fraction(1, 1000)
            ),
            graph.add("scale", options),
            graph.add("format", self._target.pixel_format),
            graph.add("buffersink"),
        ]
        for upstream, downstream in pairwise(nodes):
            upstream.link_to(downstream)
        graph.configure()
        return graph


def _colors(frame: Any) -> tuple[int, ...]:
    return int(frame.colorspace), int(frame.color_range), int(frame.color_trc)
