"""Where frames go: one protocol for all writers, and one writer that feeds several the same frames."""

from contextlib import ExitStack
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from jax_interp.media.png_writer import PngWriter
from jax_interp.media.source import Clip
from jax_interp.media.video_writer import CODECS, VideoWriter

__all__ = ["CODECS", "Clip", "FrameWriter", "PngWriter", "TeeWriter", "VideoWriter"]


class FrameWriter(Protocol):
    """A context manager that takes frames; the result appears when the block ends without an exception."""

    num_frames: int
    """Frames written so far."""

    def __enter__(self) -> Self: ...

    def write(self, frames: Clip) -> None:
        """Append frames, uint8 [F, Y, X, 3].

        Raises:
            ValueError: another dtype or size than announced.
            MediaError: the disk is full or does not answer.
        """
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TeeWriter:
    """Gives every writer the same frames, so that a folder of PNGs is frame-exact with the video.

    Enters the writers in order and leaves them in reverse; if one fails, those not yet left remove what they wrote.
    """

    def __init__(self, *writers: FrameWriter):
        self._writers = writers
        self._stack = ExitStack()
        self.num_frames = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for writer in self._writers:
                stack.enter_context(writer)
            self._stack = stack.pop_all()
        return self

    def write(self, frames: Clip) -> None:
        """Append frames, uint8 [F, Y, X, 3], to every writer; see `FrameWriter.write`."""
        frames = np.asarray(frames)
        for writer in self._writers:
            writer.write(frames)
        self.num_frames += len(frames)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
