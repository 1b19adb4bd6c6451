"""When the frames of a clip are shown: time stamps in ticks, made regular where they only are so up to rounding."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FrameTimes:
    """The times at which the frames of a clip begin, and at which the last one ends."""

    ticks: NDArray[np.int64]
    """One more than there are frames, ascending, counted from the first frame."""
    tick: Fraction
    """The length of a tick in seconds."""
    origin: Fraction = Fraction(0)
    """The time of the first frame on the file's own clock, which sound and subtitles share, in seconds."""

    @classmethod
    def regular(cls, num_frames: int, fps: Fraction, origin: Fraction = Fraction(0)) -> "FrameTimes":
        """Return the times of frames that come at `fps` frames a second."""
        return cls(np.arange(num_frames + 1, dtype=np.int64), 1 / fps, origin)

    @property
    def is_variable(self) -> bool:
        """Whether frames are shown for different times."""
        return bool(np.any(np.diff(self.ticks[:-1]) != np.diff(self.ticks[:2])))

    def selected(self, start: int, stride: int, count: int) -> "FrameTimes":
        """Return the times of `count` frames, `stride` apart from frame `start` on; the last one ends as it does."""
        last = start + (count - 1) * stride
        ticks = np.append(self.ticks[start : last + 1 : stride], self.ticks[last + 1])
        return FrameTimes(ticks - ticks[0], self.tick, self.origin + int(ticks[0]) * self.tick)
