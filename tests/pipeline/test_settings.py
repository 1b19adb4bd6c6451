"""Settings that can never work are refused when they are made."""

from typing import Any

import numpy as np
import pytest

from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import UsageError
from jax_interp.pipeline.prompt.prompts import DEFAULT_NEGATIVE_PROMPT
from jax_interp.pipeline.settings import InterpolationSettings


def test_defaults_are_upstreams_effective_values():
    settings = InterpolationSettings()
    assert (settings.sampling.guidance, settings.sampling.seed, settings.sampling.num_steps) == (-1, 11, 35)
    assert (settings.height, settings.width, settings.num_video_frames) == (704, 1280, 10)


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"num_steps": 0}, "--num-steps is 0"),
        ({"fps": 0}, "--fps is 0"),
        ({"fps": float("nan")}, "--fps is nan"),
        ({"guidance": float("inf")}, "--guidance is inf"),
        ({"seed": -1}, "--seed is -1"),
        ({"condition_noise": "loud"}, "--condition-noise is 'loud'"),
    ],
)
def test_bad_sampling(sampling, message):
    with pytest.raises(UsageError, match=message):
        InterpolationSettings(sampling=SampleSettings(**sampling))


def test_all_faults_at_once():
    with pytest.raises(UsageError, match=r"--fps is -1.*--pairs-per-batch is 0"):
        InterpolationSettings(sampling=SampleSettings(fps=-1), pairs_per_batch=0)


def test_values_of_another_type():
    with pytest.raises(
        UsageError, match=r"--frame-stride is 1.5; .*--pairs-per-batch is 'auto'; expected a whole number"
    ):
        InterpolationSettings(frame_stride=1.5, pairs_per_batch="auto")  # pyright: ignore[reportArgumentType]
    start: Any = np.int64(2)
    assert InterpolationSettings(num_frame_pairs=None, frame_index_start=start).frame_index_start == 2


@pytest.mark.parametrize(
    ("negative", "guidance", "followed"),
    [
        ("fog", -1.0, "fog"),
        ("fog", -0.1, "fog"),
        ("fog", 0.0, ""),
        ("fog", 2.0, ""),
        (None, -1.0, ""),
        (DEFAULT_NEGATIVE_PROMPT, -1.0, ""),
        ("", -1.0, ""),
    ],
)
def test_a_negative_prompt_that_frames_follow(negative, guidance, followed):
    settings = InterpolationSettings(negative_prompt=negative, sampling=SampleSettings(guidance=guidance))
    assert settings.followed_negative_prompt == followed
