"""How each pipeline takes a clip."""

from typing import get_args

import numpy as np
import pytest

from jax_interp.errors import UsageError
from jax_interp.media.source import FrameSource
from jax_interp.pipeline.jobs.kinds import kind_of
from jax_interp.pipeline.requests.inputs import input_kind
from jax_interp.pipeline.settings import InterpolationSettings, RunSettings, Video2WorldSettings

FRAMES = [np.full((16, 32, 3), level, np.uint8) for level in range(12)]
CLIP = FrameSource(
    num_frames=12, height=16, width=32, fps=None, description={"kind": "levels"}, read=lambda: iter(FRAMES)
)


def levels(part):
    return [int(frame.max()) for frame in part]


def test_every_kind_of_settings_has_its_pipeline():
    assert {kind_of(kind()).pipeline.TRANSFORMER for kind in get_args(RunSettings)} == {
        "WorldInterpolator",
        "Video2World",
    }


def test_pairs():
    settings = InterpolationSettings(frame_stride=5)
    kind = kind_of(settings)
    assert input_kind(settings).count(CLIP, settings) == 2
    assert [(number, *levels(ends)) for number, *ends in kind.parts(CLIP, settings, 2)] == [(0, 0, 5), (1, 5, 10)]


@pytest.mark.parametrize(("count", "expected"), [(1, [11]), (9, [*range(3, 12)])])
def test_the_last_frames_as_one_part(count, expected):
    settings = Video2WorldSettings(num_input_frames=count)
    kind = kind_of(settings)
    assert input_kind(settings).count(CLIP, settings) == 1
    [(number, given)] = kind.parts(CLIP, settings, 1)
    assert (number, levels(given)) == (0, expected)


def test_a_clip_that_is_too_short():
    settings = Video2WorldSettings(num_input_frames=9)
    short = FrameSource(num_frames=8, height=16, width=32, fps=None, description={}, read=lambda: iter(FRAMES[:8]))
    with pytest.raises(UsageError, match="--num-input-frames 9: the input has 8"):
        input_kind(settings).count(short, settings)
