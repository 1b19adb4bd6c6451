"""How each pipeline takes a clip."""

from collections import deque
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from jax_interp.errors import UsageError
from jax_interp.media.source import FrameSource
from jax_interp.media.timeline.pieces import Tally
from jax_interp.pipeline.jobs.kinds import kind_of
from jax_interp.pipeline.requests.inputs import input_kind
from jax_interp.pipeline.requests.request import Job
from jax_interp.pipeline.settings import InterpolationSettings, RunSettings, Video2WorldSettings

FRAMES = [np.full((16, 32, 3), level, np.uint8) for level in range(12)]
CLIP = FrameSource(
    num_frames=12, height=16, width=32, fps=None, description={"kind": "levels"}, read=lambda: iter(FRAMES)
)


def levels(part):
    return [int(frame.max()) for frame in part]


def parts_of(settings, done=0):
    """The parts of the clip from number `done` on, and which of their frames the output shows."""
    kind, shown = kind_of(settings), deque()
    planned = kind.plan(CLIP, Job(inputs=(), video=Path("film.mp4"), settings=settings), settings)
    parts = list(kind.parts(planned.plan.pieces(Tally()), planned.shape, shown, done))
    return planned, parts, list(shown)


def test_every_kind_of_settings_has_its_pipeline():
    assert {kind_of(kind()).pipeline.TRANSFORMER for kind in get_args(RunSettings)} == {
        "WorldInterpolator",
        "Video2World",
    }


def test_pairs():
    settings = InterpolationSettings(frame_stride=5)
    assert input_kind(settings).count(CLIP, settings) == 2
    planned, parts, shown = parts_of(settings)
    assert [(number, *levels(ends)) for number, *ends in parts] == [(0, 0, 5), (1, 5, 10)]
    assert sum(count for each in shown for _, count in each) == planned.plan.num_frames == 19
    assert [number for number, *_ in parts_of(settings, done=1)[1]] == [1]


@pytest.mark.parametrize(("count", "expected"), [(1, [11]), (9, [*range(3, 12)])])
def test_the_last_frames_as_one_part(count, expected):
    settings = Video2WorldSettings(num_input_frames=count)
    assert input_kind(settings).count(CLIP, settings) == 1
    planned, [(number, given)], [shown] = parts_of(settings)
    assert (number, levels(given)) == (0, expected)
    assert shown == tuple((step, 1) for step in range(121))
    assert (planned.plan.num_frames, planned.plan.rate, planned.shape.inner) == (121, 24, (704, 1280))
    assert planned.plan.foreseen() == Tally(num_frames=121, num_pieces=1, num_pairs=1)
    assert parts_of(settings, done=1)[1] == []


def test_a_clip_that_is_too_short():
    settings = Video2WorldSettings(num_input_frames=9)
    short = FrameSource(num_frames=8, height=16, width=32, fps=None, description={}, read=lambda: iter(FRAMES[:8]))
    with pytest.raises(UsageError, match="--num-input-frames 9: the input has 8"):
        input_kind(settings).count(short, settings)
    with pytest.raises(UsageError, match="--num-input-frames 9: the input has 8"):
        kind_of(settings).plan(short, Job(inputs=(), video=Path("film.mp4"), settings=settings), settings)
