"""Whether two frames are the same but for what a codec or a little grain changes."""

import numpy as np

from jax_interp.media.source import Picture

_BLOCK = 16
"""The side of the squares that are compared, in pixels: small enough for a mouth that moves."""

_THRESHOLD = 3.0
"""The largest mean difference of a square, in levels of 255, that still counts as the same. Encoders repeat a frame
with differences below 1; the motion of one pixel at an edge gives 10 and more."""


def is_duplicate(first: Picture, other: Picture) -> bool:
    """Return whether no square of two frames (uint8 RGB [Y, X, 3]) differs by more than a threshold on average."""
    difference = np.maximum(first, other) - np.minimum(first, other)
    rows = np.add.reduceat(difference.astype(np.uint32), np.arange(0, first.shape[0], _BLOCK), axis=0)
    sums = np.add.reduceat(rows, np.arange(0, first.shape[1], _BLOCK), axis=1).sum(-1)
    heights = np.diff([*range(0, first.shape[0], _BLOCK), first.shape[0]])
    widths = np.diff([*range(0, first.shape[1], _BLOCK), first.shape[1]])
    return bool(np.all(sums <= _THRESHOLD * 3 * np.outer(heights, widths)))
