"""Frame rates as exact fractions: the rate that a file states is compared with its time stamps."""

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from jax_interp.media.frame_times import FrameTimes

_ROUNDED = Fraction(1, 1_000_000)
"""The tolerance of a stated rate: Matroska keeps nanoseconds a frame, so 60000/1001 comes back as 19001/317."""

_LOST = Fraction(1, 5)
"""The share of frames that may be missing where a stated rate still holds."""


_FINE = Fraction(1, 4)
"""The longest tick, in frames, of which time stamps tell whether they are regular: in coarser ones all look so."""

_SHORTEST = Fraction(1, 2)
"""The shortest time that a last frame lasts if its file is believed, in frames of the clip's rate."""


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


def frame_times(
    stamps: NDArray[np.int64], tick: Fraction, fps: Fraction, num_frames: int, end: int | None = None
) -> FrameTimes:
    """Return the times of `num_frames` frames from their time stamps.

    Stamps that lie on the grid of `fps` up to rounding (Matroska counts milliseconds) are taken for what was rounded,
    also where frames are missing between them. Where there is not one stamp a frame, the frames come at `fps`.

    Args:
        stamps: presentation times in ticks, ascending.
        tick: the length of a tick in seconds.
        fps: the clip's rate.
        num_frames: the number of frames that are read.
        end: when the last frame ends, in ticks, if the file states it. A frame that would then last less than half as
            long as others lasts as long as a frame of the clip's rate, as does one of which nothing is stated: some
            programs write a tick or nothing for the last frame.
    """
    origin = int(stamps[0]) * tick if len(stamps) else Fraction(0)
    if len(stamps) != num_frames:
        return FrameTimes.regular(num_frames, fps, origin)
    if end is None or (end - int(stamps[-1])) * tick * fps < _SHORTEST:
        end = int(stamps[-1]) + max(1, round(1 / (fps * tick)))
    grid = np.rint((stamps - stamps[0]) * float(fps * tick))
    if fps * tick <= _FINE and _on_grid(stamps, fps * tick) and np.all(np.diff(grid) > 0):
        held = max(1, round((end - int(stamps[-1])) * tick * fps))
        return FrameTimes(np.append(grid, grid[-1] + held).astype(np.int64), 1 / fps, origin)
    return FrameTimes(np.append(stamps, end) - stamps[0], tick, origin)
