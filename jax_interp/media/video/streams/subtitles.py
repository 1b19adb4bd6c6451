"""Subtitles of text written anew as the kind that a container has, by libavcodec's decoders and encoders."""

import logging
import re
from fractions import Fraction
from typing import Any

from jax_interp.media.video.container import decoding_errors

logger = logging.getLogger("jax_interp")

CONVERTIBLE = frozenset(("srt", "subrip", "ass", "ssa", "webvtt", "text", "mov_text"))
"""The kinds of text, by libavcodec's names. Others are pictures, or captions that come letter by letter."""

KINDS = {".mp4": "mov_text", ".mov": "mov_text", ".mkv": "subrip"}
"""The kind of text that every player shows, by the container's suffix."""


_DRAWING = re.compile(rb"\{[^}]*\\p[1-9]")
"""What makes the text behind it the outline of a drawing, in ASS."""


class SubtitleConverter:
    """Takes the packets of a stream of subtitles and gives the same texts as another kind.

    Italics, bold and underlined text stay; where on the picture a text stands, its font, and drawings are lost.
    """

    def __init__(self, output: Any, source: Any, kind: str):
        """Add the stream `target` of `kind` to the container `output`; `source` is the stream that is read."""
        self._decoder = source.codec_context
        self._decoder.open(strict=False)
        self.target = output.add_stream(kind)
        self._encoder = self.target.codec_context
        # What the styles in the texts mean; the encoder does not open without.
        self._encoder.subtitle_header = self._decoder.subtitle_header
        self._encoder.time_base = Fraction(1, 1000)

    def convert(self, packet: Any) -> Any:
        """Return the packet with its text as the other kind, with its times as they were; None if it has no text.

        One that is damaged is left out with a warning, so that it does not cost the film.
        """
        try:
            decoded = self._decoder.decode2(packet)
            if decoded is None or not len(decoded) or any(_DRAWING.search(text.ass) for text in decoded):
                return None
            converted = self._encoder.encode_subtitle(decoded)
        except decoding_errors() as error:
            seconds = float(packet.pts * packet.time_base)
            logger.warning("the subtitle at %.2f s of the input is left out: it cannot be read (%s)", seconds, error)
            return None
        if not converted.size:
            return None
        converted.pts, converted.dts, converted.duration = packet.pts, packet.dts, packet.duration
        converted.time_base = packet.time_base
        return converted
