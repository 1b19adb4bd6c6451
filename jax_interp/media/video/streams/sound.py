"""Sound decoded, stretched by libavfilter's atempo, which keeps its pitch, and encoded as AAC."""

import math
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from typing import Any

_SLOWEST_TEMPO = Fraction(1, 2)
"""The lowest tempo of one atempo filter; lower ones take several."""

_WINDOWS = 24
"""atempo's windows have the power of two above the samples of this part of a second."""

_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
"""The layouts that AAC has, by their number of channels."""


class Stretcher:
    """Takes the packets of a stream of sound and gives those of its used part, `slowed` times as long, as AAC."""

    def __init__(self, output: Any, source: Any, begin: Fraction, end: Fraction | float, slowed: Fraction):
        """Add the stream `target` to the container `output`; `begin` and `end` are seconds on the source's clock."""
        self._source, self._begin, self._slowed = source, begin, slowed
        context = source.codec_context
        self._rate = context.sample_rate if context.sample_rate in _AAC_RATES else 48000
        layout = _LAYOUTS.get(context.layout.nb_channels, "stereo")
        self.target = output.add_stream("aac", rate=self._rate, layout=layout)
        wanted = f"sample_fmts=fltp:sample_rates={self._rate}:channel_layouts={layout}"
        self._graph = _build(source, begin, end, slowed, wanted)
        self._next: int | None = None

    def feed(self, packet: Any) -> Iterator[tuple[Fraction, Any]]:
        """Yield (time in the output, packet) for what a packet of the source gives."""
        for frame in packet.decode():
            self._push(frame)
            yield from self._encode_ready()

    def flush(self) -> Iterator[tuple[Fraction, Any]]:
        """Yield what is left."""
        for frame in self._source.codec_context.decode(None):
            self._push(frame)
        self._push(None)
        yield from self._encode_ready()
        yield from self._timed(self.target.encode(None))

    def _push(self, frame: Any) -> None:
        import av.error

        with suppress(av.error.EOFError):  # the used part has ended
            self._graph.push(frame)

    def _encode_ready(self) -> Iterator[tuple[Fraction, Any]]:
        import av.error

        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            if self._next is None:  # atempo does not stretch the time at which the sound begins
                began = max(Fraction(0), frame.pts * frame.time_base)
                self._next = round((began * self._slowed + smear(self._slowed, self._rate)) * self._rate)
            frame.pts, frame.time_base = self._next, Fraction(1, self._rate)
            self._next += frame.samples
            yield from self._timed(self.target.encode(frame))

    def _timed(self, packets: list[Any]) -> Iterator[tuple[Fraction, Any]]:
        for packet in packets:
            yield packet.pts * packet.time_base, packet


def _build(source: Any, begin: Fraction, end: Fraction | float, slowed: Fraction, wanted: str) -> Any:
    import av.filter

    graph = av.filter.Graph()
    until = f":end={float(end):.9f}" if end != math.inf else ""
    nodes = [
        graph.add_abuffer(template=source),
        graph.add("atrim", f"start={float(begin):.9f}{until}"),
        graph.add("asetpts", f"PTS-({float(begin):.9f}/TB)"),
        *(graph.add("atempo", f"{float(tempo):.9f}") for tempo in tempos(1 / slowed)),
        graph.add("aformat", wanted),
        graph.add("abuffersink"),
    ]
    for upstream, downstream in pairwise(nodes):
        upstream.link_to(downstream)
    graph.configure()
    return graph


def tempos(tempo: Fraction) -> list[Fraction]:
    """Return the tempos of the filters that together give `tempo`; none where it is 1."""
    parts = []
    while tempo < _SLOWEST_TEMPO:
        parts.append(_SLOWEST_TEMPO)
        tempo /= _SLOWEST_TEMPO
    return parts if tempo == 1 else [*parts, tempo]


def smear(slowed: Fraction, rate: int) -> Fraction:
    """Return how much too early atempo's sound is in its middle, in seconds of the output.

    It lays windows of the input over each other further apart than they were, so that what lies at the end of a window
    comes early by up to (slowed - 1) windows; the next filter stretches that too.
    """
    window, early = Fraction(1 << (rate // _WINDOWS).bit_length(), rate), Fraction(0)
    for tempo in tempos(1 / slowed):
        early = early / tempo + (1 / tempo - 1) * window / 2
    return early
