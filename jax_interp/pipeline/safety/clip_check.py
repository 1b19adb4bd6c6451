"""Checking a clip with the guardrails of frames, chunk by chunk."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from itertools import islice

import numpy as np

from jax_interp.guardrails.verdict import Verdict
from jax_interp.media.source import FrameSource, RgbFrames
from jax_interp.media.writer import FrameWriter
from jax_interp.pipeline.safety.guardrails import Guardrails

CHUNK_FRAMES = 20
"""The number of frames that are checked, and kept in memory, at a time."""


def check_clip(
    guardrails: Guardrails,
    source: FrameSource,
    writer: FrameWriter | None = None,
    progress: Callable[[int], None] | None = None,
) -> Mapping[str, Verdict]:
    """Return the verdict of each guardrail of frames on `source`, up to the first that blocks.

    The frames that may be shown are given to `writer`. If the clip is blocked, `writer` is closed by an exception, and
    so writes no file. `progress` is called with the number of frames checked so far.

    Raises:
        MediaError: the clip cannot be read to its end, or the frames cannot be written.
    """
    guardrails.start_counting()
    try:
        with writer or nullcontext():
            for frames in _pieces(guardrails, source, progress):
                if writer is not None:
                    writer.write(frames)
    except _BlockedPiece as blocked:
        return blocked.verdicts
    facts = guardrails.facts()
    return {
        "video_safety": Verdict.allow(f"looked at {facts['checked_frames']} of {facts['frames']} frames"),
        "face_blur": Verdict.allow(f"found {facts['faces']} face(s) on {facts['frames']} frames"),
    }


class _BlockedPiece(Exception):
    """The exception that ends the check because a chunk is blocked, and with it the clip."""

    def __init__(self, verdicts: Mapping[str, Verdict]):
        super().__init__("blocked")
        self.verdicts = verdicts


def _pieces(guardrails: Guardrails, source: FrameSource, progress: Callable[[int], None] | None) -> Iterator[RgbFrames]:
    frames, number = iter(source), 0
    while piece := list(islice(frames, CHUNK_FRAMES)):
        checked = guardrails.check_video(np.stack(piece), number)
        if checked.frames is None:
            raise _BlockedPiece(checked.verdicts)
        yield checked.frames
        number += len(piece)
        if progress is not None:
            progress(number)
    if not number:
        raise _BlockedPiece({"video_safety": Verdict.block("there are no frames to look at")})
