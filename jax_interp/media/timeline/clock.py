"""The output's moments among the times of input frames, in whole numbers, so that nothing is rounded."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Protocol


class Times(Protocol):
    """The times at which frames begin, and last the time at which the last one ends; in ticks, ascending."""

    def __getitem__(self, index: int, /) -> int: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Clock:
    """Output frame j is shown at `start + j * period` on the input's clock; all in units of one length.

    The output has the whole number of frames nearest to its duration, and at least one. So it ends within half a frame
    of where the input ends.
    """

    start: int
    end: int
    period: int
    """The time on the input's clock from one output frame to the next; in slow motion shorter than in the output."""
    unit_ticks: int = 1
    """Units of the clock in a tick of the input's time stamps."""

    @classmethod
    def over(cls, times: Times, tick: Fraction, period: Fraction) -> "Clock":
        """Return the clock from the first of `times` to the last, of which each is `tick` seconds.

        `period` are the seconds of the input from one output frame to the next.
        """
        units = lcm(tick.denominator, period.denominator)
        scale = int(tick * units)
        return cls(int(times[0]) * scale, int(times[len(times) - 1]) * scale, int(period * units), scale)

    @property
    def num_frames(self) -> int:
        """The number of output frames."""
        return max(1, (2 * (self.end - self.start) + self.period) // (2 * self.period))

    def between(self, begin: int, until: int) -> range:
        """Return the numbers of the output frames from `begin` on and before `until`, in units."""
        return range(self._first_from(begin), self._first_from(until))

    def steps(self, begin: int, until: int, steps: int) -> Iterator[tuple[int, Fraction]]:
        """Yield (nearest step, its error) for the output frames between the two frames of a pair.

        Step k of `steps` lies at k/steps of the way from `begin` to `until`. The error is in output frames, and at most
        half a step.
        """
        length = until - begin
        for number in self.between(begin, until):
            way = (self.start + number * self.period - begin) * steps
            nearest = (2 * way + length) // (2 * length)
            yield nearest, Fraction(abs(way - nearest * length), steps * self.period)

    def _first_from(self, time: int) -> int:
        if time >= self.end:
            return self.num_frames
        return min(self.num_frames, max(0, -((self.start - time) // self.period)))
