"""What any interpolation has to be better than: the nearer keyframe, and both laid over each other."""

import numpy as np
from numpy.typing import NDArray


def nearest(first: NDArray[np.uint8], last: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return `count` frames, each of them the nearer of the keyframes [Y, X, 3]; in the middle the last one."""
    share = _shares(count)
    return np.where(share < 0.5, first, last)


def blend(first: NDArray[np.uint8], last: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    """Return `count` frames that fade from the first to the last keyframe; levels are not rounded."""
    share = _shares(count)
    return (first * (1 - share) + last * share).astype(np.float32)


def _shares(count: int) -> NDArray[np.float64]:
    return (np.arange(1, count + 1) / (count + 1))[:, None, None, None]
