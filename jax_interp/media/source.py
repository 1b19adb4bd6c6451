"""A clip as the rest of the program knows it: its size and length, and frames that come one by one."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jax_interp.errors import UsageError
from jax_interp.media.frame_times import FrameTimes

Picture: TypeAlias = NDArray[np.uint8]
"""One RGB frame, uint8 [Y, X, 3]."""

RgbFrames: TypeAlias = NDArray[np.uint8]
"""RGB frames, uint8 [F, Y, X, 3]."""

MAX_PIXELS = 1 << 26
"""Pixels of one frame (8192x8192). A file of a few kilobytes can claim any size, so larger frames are refused."""


@dataclass(frozen=True, kw_only=True)
class FrameSource:
    """A clip that is read anew, front to back, by every `iter()`; no frame is kept.

    Iterating yields uint8 [Y, X, 3] RGB, all of one size, and raises `MediaError` naming the file and the frame
    where the input turns out damaged or shorter than `num_frames`.

    ```python
    black = np.zeros((704, 1280, 3), np.uint8)
    FrameSource(2, 704, 1280, None, {"kind": "black"}, read=lambda: iter([black, black]))
    ```
    """

    num_frames: int
    height: int
    width: int
    fps: Fraction | None
    """The frame rate in frames a second; None for pictures."""
    description: Mapping[str, str | int]
    """A description of the input for the run record, of JSON values only."""
    read: Callable[[], Iterator[Picture]]
    times: FrameTimes | None = None
    """When the frames are shown; None for pictures, which have no time."""
    pixel_aspect: Fraction = Fraction(1)
    """The width of a pixel over its height, upright; not 1 in anamorphic video, as on DVDs."""

    @property
    def shown_width(self) -> int:
        """The width that the pictures would have if their pixels were square."""
        return max(1, round(self.width * self.pixel_aspect))

    def __iter__(self) -> Iterator[Picture]:
        return self.read()


def check_clip_array(frames: Any) -> RgbFrames:
    """`frames` as an array; raises `UsageError` unless it is uint8 [F, Y, X, 3]."""
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise UsageError(f"frames are {frames.dtype} {frames.shape}; expected uint8 [frames, height, width, 3]")
    return frames
