"""Frame rates as exact fractions: the rate that a file states is compared with its time stamps."""

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

_ROUNDED = Fraction(1, 1_000_000)
"""The tolerance of a stated rate: Matroska keeps nanoseconds a frame, so 60000/1001 comes back as 19001/317."""

_LOST = Fraction(1, 5)
"""The share of frames that may be missing where a stated rate still holds."""


def frame_rate(stated: Iterable[Fraction | None], times: NDArray[np.int64], tick: Fraction) -> Fraction | None:
    """Return the frame rate: the first of `stated` that agrees with the time stamps, else their mean rate.

    A stated rate holds if it keeps step with the time stamps (within half a frame or 1 %), or if every time stamp lies
    on its grid and at most one frame in five is missing: a recording that starts in the middle of a broadcast, or
    that lost a frame, still plays at 25 frames a second and not at 925/38.

    Args:
        stated: the rates that the file states, the most trusted first; None is skipped.
        times: presentation times of the frames in ticks, ascending.
        tick: the length of a tick in seconds.
    """
    rates = [_standard(rate, _ROUNDED) for rate in stated if rate]
    if len(times) < 2 or times[0] == times[-1]:
        # Without time stamps the first is a container's default, and the last comes from the stream itself.
        return rates[-1] if rates else None
    span, steps = int(times[-1] - times[0]) * tick, len(times) - 1
    for rate in rates:
        if abs(rate * span - steps) <= max(Fraction(1, 2), Fraction(steps, 100)):
            return rate
    for rate in rates:
        if steps >= (1 - _LOST) * rate * span and _on_grid(times, rate * tick):
            return rate
    return _standard((steps / span).limit_denominator(1001), tick / span)


def _on_grid(times: NDArray[np.int64], frames_per_tick: Fraction) -> bool:
    """Tell whether all times differ by whole numbers of frames; each may be rounded to a tick."""
    positions = (times - times[0]) * float(frames_per_tick)
    return bool(np.all(np.abs(positions - np.rint(positions)) <= float(frames_per_tick) + 1e-6))


def _standard(rate: Fraction, tolerance: Fraction) -> Fraction:
    """Return the whole number or n/1.001 that `rate` is within the relative `tolerance`, else `rate` itself."""
    for standard in (Fraction(round(rate)), Fraction(round(rate) * 1000, 1001)):
        if standard and abs(rate / standard - 1) <= tolerance:
            return standard
    return rate
