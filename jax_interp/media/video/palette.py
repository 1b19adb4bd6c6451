"""Frames with a palette of 256 colours, for GIF: each frame gets the palette that fits it, so that none waits."""

from fractions import Fraction
from typing import Any


class PaletteConverter:
    """Converts RGB frames of one size to palette indices, dithered (Sierra), through libavfilter."""

    def __init__(self, height: int, width: int):
        import av.filter
        from av.video.format import VideoFormat

        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=width, height=height, format=VideoFormat("rgb24"), time_base=Fraction(1, 1000)
        )
        split = self._graph.add("split")
        palette = self._graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
        dithered = self._graph.add("paletteuse", "new=1:dither=sierra2_4a")
        source.link_to(split)
        split.link_to(palette, 0, 0)
        split.link_to(dithered, 1, 0)
        palette.link_to(dithered, 0, 1)
        dithered.link_to(self._graph.add("buffersink"))
        self._graph.configure()
        self._count = 0

    def convert(self, frame: Any) -> Any:
        """Return the `av.VideoFrame` (rgb24) as one of format pal8."""
        frame.pts, frame.time_base = self._count, Fraction(1, 1000)
        self._count += 1
        self._graph.push(frame)
        return self._graph.pull()
