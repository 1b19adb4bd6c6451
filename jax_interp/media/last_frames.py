"""The frames that a clip is continued from: the last ones, checked, and laid over white where they are transparent."""

from typing import Any

import numpy as np

from jax_interp.errors import UsageError
from jax_interp.media.pictures.pixels import composite_over_white
from jax_interp.media.source import RgbFrames

SMALLEST_SIDE = 16
"""The fewest pixels that height and width of a given frame may have: one patch of the transformer."""


def given_frames(frames: Any, count: int) -> RgbFrames:
    """Return the last `count` of `frames`, uint8 [F, Y, X, 3] or [F, Y, X, 4], or of one picture without the axis F.

    Raises:
        UsageError: the array is another one, has too few frames, or frames that are too small.
    """
    array = np.asarray(frames)
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] not in (3, 4):
        raise UsageError(
            f"frames are {array.dtype} {array.shape}; expected uint8 [frames, height, width, 3] or one picture"
            " [height, width, 3]; a fourth channel is opacity"
        )
    clip = array if array.ndim == 4 else array[None]
    check_given(len(clip), clip.shape[1], clip.shape[2], count)
    last = clip[len(clip) - count :]
    return composite_over_white(last[..., :3], last[..., 3:], 255)[0] if last.shape[-1] == 4 else last


def check_given(num_frames: int, height: int, width: int, count: int) -> None:
    """Raise `UsageError` unless the last `count` of `num_frames` frames of this size can be continued."""
    if num_frames < count:
        raise UsageError(
            f"--num-input-frames {count}: the input has {num_frames} frame(s); give a clip of {count} or more, or pass"
            " --num-input-frames 1"
        )
    if min(height, width) < SMALLEST_SIDE:
        raise UsageError(
            f"the input is {height}×{width} pixels, too small to be continued: expected {SMALLEST_SIDE} or more a side"
        )
