"""The moments of a comparison: which frame of each clip is shown together with which of the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from jax_interp.errors import UsageError
from jax_interp.media.source import FrameSource

Alignment = Literal["auto", "time", "ends"]
DEFAULT_RATE = Fraction(24)
"""Frames per second of pictures that are compared with each other alone."""


@dataclass(frozen=True)
class Moments:
    """The frames that are shown together, and how fast."""

    frames: tuple[tuple[int, ...], ...]
    """For each moment, the frame of each clip."""
    rate: Fraction
    """Moments per second."""
    alignment: Alignment
    """"time": frames of the same second are shown together; "ends": the first and the last ones are."""


def align(sources: Sequence[FrameSource], alignment: Alignment = "auto") -> Moments:
    """Return the moments of clips; there is one for each frame of the clip that has the most.

    With "auto" clips of one length are compared by time, to within a frame of the slowest one, and others by their
    ends: a clip and what was made of it in slow motion. Pictures have no rate, and take that of the others where they
    have as many frames. By time the clips end with the shortest one.

    Raises:
        UsageError: clips of unknown rate are to be compared by time.
    """
    counts = [source.num_frames for source in sources]
    rates = _rates(sources)
    if alignment == "auto":
        alignment = "time" if rates and _equally_long(counts, rates) else "ends"
    if alignment == "ends":
        return _by_ends(counts, [source.fps for source in sources])
    if rates is None:
        named = [str(source.description.get("path")) for source in sources if source.fps is None]
        raise UsageError(f"--align time: {', '.join(named)} states no rate; leave --align out, or give videos")
    return _by_time(counts, rates)


def _rates(sources: Sequence[FrameSource]) -> list[Fraction] | None:
    """Return the rate of each clip; None if one is unknown, and its number of frames does not tell it."""
    known = {source.num_frames: source.fps for source in sources if source.fps}
    if not known:
        return [DEFAULT_RATE] * len(sources)
    rates = [source.fps or known.get(source.num_frames) for source in sources]
    return [rate for rate in rates if rate] if all(rates) else None


def _equally_long(counts: Sequence[int], rates: Sequence[Fraction]) -> bool:
    seconds = [count / rate for count, rate in zip(counts, rates, strict=True)]
    return max(seconds) - min(seconds) <= 1 / min(rates)


def _by_time(counts: Sequence[int], rates: Sequence[Fraction]) -> Moments:
    fastest = max(rates)
    length = min(count / rate for count, rate in zip(counts, rates, strict=True))
    moments = max(1, int(length * fastest))
    frames = tuple(
        tuple(min(count - 1, int(moment * rate / fastest)) for count, rate in zip(counts, rates, strict=True))
        for moment in range(moments)
    )
    return Moments(frames, fastest, "time")


def _by_ends(counts: Sequence[int], rates: Sequence[Fraction | None]) -> Moments:
    most = max(counts)
    last = max(1, most - 1)
    frames = tuple(tuple((2 * moment * (count - 1) + last) // (2 * last) for count in counts) for moment in range(most))
    return Moments(frames, rates[counts.index(most)] or DEFAULT_RATE, "ends")
