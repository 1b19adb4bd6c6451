"""The frames that a clip is continued from: the last ones, checked, and laid over white where they are transparent."""

from typing import Any

import numpy as np

from jax_interp.errors import UsageError
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
    return over_white(last) if last.shape[-1] == 4 else last


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


def over_white(rgba: np.ndarray) -> RgbFrames:
    """Composite colours with opacity, uint8 [..., 4], over white; levels are truncated as upstream's are."""
    # parity: in float32 as upstream, where 254.99999 becomes 254.
    opacity = rgba[..., 3:].astype(np.float32) / np.float32(255)
    over = rgba[..., :3].astype(np.float32) * opacity + np.float32(255) * (np.float32(1) - opacity)
    return over.astype(np.uint8)
