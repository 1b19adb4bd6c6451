"""The protocol of all writers of frames, and a writer that gives several writers the same frames."""

from contextlib import ExitStack
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from jax_interp.media.pictures.png_writer import PngWriter
from jax_interp.media.source import RgbFrames
from jax_interp.media.video.codecs import CODECS
from jax_interp.media.video.writer import VideoWriter

__all__ = ["CODECS", "FrameWriter", "PngWriter", "RgbFrames", "TeeWriter", "VideoWriter"]


class FrameWriter(Protocol):
    """A writer of frames: a context manager whose result appears when its block ends without an exception.

    ```python
    with VideoWriter(Path("out.mp4"), fps=24, height=704, width=1280) as writer:
        writer.write(frames)
    ```
    """

    num_frames: int
    """The number of frames written so far."""

    def __enter__(self) -> Self: ...

    def write(self, frames: RgbFrames) -> None:
        """Append frames, uint8 [F, Y, X, 3].

        Raises:
            ValueError: the dtype or size is not the announced one.
            MediaError: the disk is full or does not answer.
        """
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TeeWriter:
    """A writer that gives several writers the same frames, so that a folder of PNGs is frame-exact with the video.

    It enters the writers in order and leaves them in reverse; if one fails, those not yet left remove what they wrote.
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

    def write(self, frames: RgbFrames) -> None:
        """Append frames, uint8 [F, Y, X, 3], to every writer; see `FrameWriter.write`."""
        frames = np.asarray(frames)
        for writer in self._writers:
            writer.write(frames)
        self.num_frames += len(frames)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
