"""The moments of a comparison: which frame of each clip is shown together with which of the others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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
    ends: a clip and what was made of it in slow motion. A clip of variable rate is followed by its time stamps.
    Pictures have no rate, and take that of the others where they have as many frames. By time the clips end with the
    shortest one.

    Raises:
        UsageError: clips of unknown rate are to be compared by time.
    """
    rates = _rates(sources)
    if alignment == "auto":
        alignment = "time" if rates and _equally_long(sources, rates) else "ends"
    if alignment == "ends":
        return _by_ends(sources)
    if rates is None:
        named = [str(source.description.get("path")) for source in sources if source.fps is None]
        raise UsageError(f"--align time: {', '.join(named)} states no rate; leave --align out, or give videos")
    return _by_time(sources, rates)


def _rates(sources: Sequence[FrameSource]) -> list[Fraction] | None:
    """Return the rate of each clip; None if one is unknown, and its number of frames does not tell it."""
    known = {source.num_frames: source.fps for source in sources if source.fps}
    if not known:
        return [DEFAULT_RATE] * len(sources)
    rates = [source.fps or known.get(source.num_frames) for source in sources]
    return [rate for rate in rates if rate] if all(rates) else None


def _lengths(sources: Sequence[FrameSource], rates: Sequence[Fraction]) -> list[Fraction]:
    """Return the seconds of each clip; its time stamps say more than its rate, as where the last frame is held."""
    return [
        int(source.times.ticks[-1]) * source.times.tick if source.times is not None else source.num_frames / rate
        for source, rate in zip(sources, rates, strict=True)
    ]


def _equally_long(sources: Sequence[FrameSource], rates: Sequence[Fraction]) -> bool:
    seconds = _lengths(sources, rates)
    return max(seconds) - min(seconds) <= 1 / min(rates)


def _by_time(sources: Sequence[FrameSource], rates: Sequence[Fraction]) -> Moments:
    fastest = max(rates)
    moments = max(1, int(min(_lengths(sources, rates)) * fastest))
    frames = tuple(
        tuple(_shown_at(source, rate, moment / fastest) for source, rate in zip(sources, rates, strict=True))
        for moment in range(moments)
    )
    return Moments(frames, fastest, "time")


def _shown_at(source: FrameSource, rate: Fraction, seconds: Fraction) -> int:
    """Return the frame that is shown `seconds` after the first one begins."""
    if (begins := _variable_begins(source)) is None or source.times is None:
        return min(source.num_frames - 1, int(seconds * rate))
    return int(np.searchsorted(begins, int(seconds / source.times.tick), side="right")) - 1


def _by_ends(sources: Sequence[FrameSource]) -> Moments:
    longest = max(sources, key=lambda source: source.num_frames)
    frames = tuple(tuple(_nearest(source, share) for source in sources) for share in _shares_of_way(longest))
    return Moments(frames, longest.fps or DEFAULT_RATE, "ends")


def _shares_of_way(source: FrameSource) -> list[Fraction]:
    """Return where every frame lies on the way from the first to the last one, from 0 to 1."""
    begins = _variable_begins(source)
    steps = range(source.num_frames) if begins is None else begins.tolist()
    return [Fraction(step, max(1, steps[-1])) for step in steps]


def _nearest(source: FrameSource, share: Fraction) -> int:
    """Return the frame that is nearest to a share of the way from the first to the last one; of two the later one."""
    if (begins := _variable_begins(source)) is None:
        return int(share * (source.num_frames - 1) + Fraction(1, 2))
    wanted = share * int(begins[-1])
    later = int(np.searchsorted(begins, math.ceil(wanted)))
    earlier = max(0, later - 1)
    return earlier if wanted - int(begins[earlier]) < int(begins[later]) - wanted else later


def _variable_begins(source: FrameSource) -> NDArray[np.int64] | None:
    """Return when the frames of a clip of variable rate begin, in ticks from the first one; None for others."""
    return source.times.ticks[:-1] if source.times is not None and source.times.is_variable else None
