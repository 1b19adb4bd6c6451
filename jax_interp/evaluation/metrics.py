"""Measures of how near made frames are to the true ones: everywhere, where something moves, and where nothing does."""

from functools import cache
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Frames: TypeAlias = NDArray[Any]
"""Frames [F, Y, X, 3] with levels from 0 to 255; those that were made may have fractions."""

Mask: TypeAlias = NDArray[np.bool_]
"""Places [Y, X]."""

MOVING = 8.0
"""A place counts as moving if both ends of a pair differ there by more than this (of 255)."""

PEAK = 255.0
SSIM_WINDOW = 11
"""Width in pixels of the Gaussian windows of SSIM (sigma 1.5); smaller frames have no SSIM."""


class Score(NamedTuple):
    """A measure over all places, over those that move and over the still ones; None where there is nothing to say."""

    all: float | None
    moving: float | None
    still: float | None


def moving_mask(first: NDArray[np.uint8], last: NDArray[np.uint8], threshold: float = MOVING) -> Mask:
    """Return where two frames [Y, X, 3] differ by more than `threshold` levels, as a mean over the colours."""
    return np.abs(first.astype(np.float32) - last).mean(-1) > threshold


def psnr(made: Frames, truth: Frames, moving: Mask) -> Score:
    """Return the PSNR in dB for a peak of 255, of the squared error's mean over all frames.

    It is None where there is no error at all, or no place.
    """
    error = squared_error(made, truth)
    return Score(decibels(error), decibels(error[:, moving]), decibels(error[:, ~moving]))


def squared_error(made: Frames, truth: Frames) -> NDArray[np.float64]:
    """Return the squared differences [F, Y, X, 3]."""
    return (made.astype(np.float64) - truth) ** 2


def decibels(error: NDArray[np.float64]) -> float | None:
    """Return the PSNR in dB of squared errors; None if all are 0, or there is none."""
    return float(10 * np.log10(PEAK**2 / error.mean())) if error.any() else None


def ssim(made: Frames, truth: Frames, moving: Mask) -> Score:
    """Return the mean SSIM over frames and colours, as `dm_pix.ssim` has it (Wang et al. 2004).

    A window counts as moving if its centre does. Frames are compared one at a time, by one program for each size.
    """
    if min(truth.shape[1:3]) < SSIM_WINDOW:
        return Score(None, None, None)
    margin = SSIM_WINDOW // 2
    inside = moving[margin : moving.shape[0] - margin, margin : moving.shape[1] - margin]
    compare = _ssim_map()
    values = np.stack([np.asarray(compare(*pair)) for pair in zip(made, truth, strict=True)]).mean(-1)
    return Score(float(values.mean()), _mean(values[:, inside]), _mean(values[:, ~inside]))


@cache
def _ssim_map() -> Any:
    """Return the compiled function from two frames [Y, X, 3] to the values of all whole windows."""
    import dm_pix

    @jax.jit
    def compare(made: Any, truth: Any) -> Any:
        both = (jnp.asarray(frame, jnp.float32) for frame in (made, truth))
        with jax.numpy_dtype_promotion("standard"):  # its windows are computed from whole numbers
            return dm_pix.ssim(*both, max_val=PEAK, filter_size=SSIM_WINDOW, return_map=True)

    return compare


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if values.size else None
