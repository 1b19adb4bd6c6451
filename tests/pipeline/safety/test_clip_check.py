"""A clip passes the guardrails piece by piece."""

import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from jax_interp.errors import MediaError
from jax_interp.media.source import FrameSource
from jax_interp.pipeline.safety.clip_check import CHUNK_FRAMES, check_clip
from jax_interp.pipeline.safety.guardrails import FRAME_GUARDRAILS, Guardrails, combine_verdicts

LONG = 5 * CHUNK_FRAMES + 3


class Writer:
    """Keeps what it is given, unless it is left by an exception."""

    def __init__(self):
        self.num_frames, self.left_by = 0, "nothing yet"

    def __enter__(self):
        return self

    def write(self, frames):
        self.num_frames += len(frames)

    def __exit__(self, kind, error, trace):
        self.left_by = kind


@pytest.fixture(scope="module")
def guardrails(guarded):
    return Guardrails.open(guarded)


def source_of(count, bad=None, fails_at=None) -> tuple[FrameSource, list[int]]:
    """A source of `count` frames, and how many of them are held each time that another is read."""
    alive: dict[int, weakref.ref] = {}
    held = []

    def read() -> Iterator[np.ndarray]:
        for number in range(count):
            if number == fails_at:
                raise MediaError("clip.mp4: damaged")
            frame = np.full((64, 96, 3), 255 if number == bad else 0, np.uint8)
            alive[number] = weakref.ref(frame)
            held.append(sum(reference() is not None for reference in alive.values()))
            yield frame

    return FrameSource(num_frames=count, height=64, width=96, fps=None, description={}, read=read), held


def test_a_long_clip_is_never_held(guardrails):
    source, held = source_of(LONG)
    writer, done = Writer(), []
    verdicts = check_clip(guardrails, source, writer, done.append)
    assert combine_verdicts(verdicts, FRAME_GUARDRAILS).allowed
    assert verdicts["video_safety"].reason == f"looked at {LONG} of {LONG} frames"
    assert (writer.num_frames, writer.left_by) == (LONG, None)
    assert done == [*range(CHUNK_FRAMES, LONG, CHUNK_FRAMES), LONG]
    assert max(held) <= 2 * CHUNK_FRAMES


def test_a_bad_frame_ends_it_by_an_exception(guardrails):
    writer = Writer()
    source, held = source_of(LONG, bad=2 * CHUNK_FRAMES + 1)
    verdicts = check_clip(guardrails, source, writer)
    assert not combine_verdicts(verdicts, FRAME_GUARDRAILS).allowed
    assert verdicts["video_safety"].reason == f"frame {2 * CHUNK_FRAMES + 1} is not safe"
    assert writer.left_by is not None
    assert len(held) == 3 * CHUNK_FRAMES  # the rest is not even read


def test_no_frames_are_no_safe_clip(guardrails):
    source, _ = source_of(0)
    writer = Writer()
    assert not combine_verdicts(check_clip(guardrails, source, writer), FRAME_GUARDRAILS).allowed
    assert writer.left_by is not None


def test_a_clip_that_breaks_off_is_no_safe_clip(guardrails):
    source, _ = source_of(LONG, fails_at=CHUNK_FRAMES + 2)
    writer = Writer()
    with pytest.raises(MediaError):
        check_clip(guardrails, source, writer)
    assert writer.left_by is MediaError
