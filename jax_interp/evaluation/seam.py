"""The seam of a pair: the jump from a true keyframe to the frame that was made beside it."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from jax_interp.evaluation.metrics import Frames


class Seam(NamedTuple):
    """Mean absolute differences of neighbouring frames, in levels of 255."""

    at_keyframes: float
    """From each keyframe to the frame beside it, as a mean of both ends."""
    between: float | None
    """From each frame between the keyframes to the next, as a mean; None if there is only one."""


def seam(first: Frames, made: Frames, last: Frames) -> Seam:
    """Return the steps of a pair: true keyframes `first` and `last` [Y, X, 3], and the frames `made` between them.

    Smooth motion has equal steps everywhere; a larger one at the keyframes is seen as a jump, once a pair.
    """
    sequence = [first, *made, last]
    steps = [float(np.abs(after.astype(np.float32) - before).mean()) for before, after in pairwise(sequence)]
    inside = steps[1:-1]
    return Seam((steps[0] + steps[-1]) / 2, float(np.mean(inside)) if inside else None)
