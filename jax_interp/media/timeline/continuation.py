"""The plan of a clip that is continued: its last frames are the only piece, and all frames made of it are shown."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from jax_interp.media.source import FrameSource, RgbFrames
from jax_interp.media.timeline.pieces import Piece, Tally


@dataclass(frozen=True)
class Continuation:
    """How a clip goes on; what `plan.ClipPlan` is for one that is interpolated."""

    source: FrameSource
    rate: Fraction
    """The output's frames a second, exact."""
    num_given: int
    """The number of frames at the end of the input that are continued."""
    num_frames: int
    """The number of output frames, the given ones included."""

    @property
    def num_pairs(self) -> int:
        """The clip is made as a whole, which counts as one pair."""
        return 1

    def foreseen(self) -> Tally:
        """Return what `pieces` will count."""
        tally = Tally()
        self._count(tally)
        return tally

    def pieces(self, tally: Tally) -> Iterator[Piece[RgbFrames]]:
        """Yield the only piece, whose first and only item are the last frames, and count in `tally`."""
        last = deque(self.source, maxlen=self.num_given)
        self._count(tally)
        yield Piece(0, np.stack(last), None, tuple((step, 1) for step in range(self.num_frames)))

    def _count(self, tally: Tally) -> None:
        tally.num_frames += self.num_frames
        tally.num_pieces += 1
        tally.num_pairs += 1
