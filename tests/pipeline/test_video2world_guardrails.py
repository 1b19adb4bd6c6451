"""Guardrails of Video2World: texts are checked before anything is made, and frames before they are shown."""

from dataclasses import replace

import numpy as np
import pytest

from jax_interp import Video2World, Video2WorldSettings
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import Blocked
from jax_interp.guardrails.verdict import Verdict
from jax_interp.pipeline.safety.guardrails import FRAME_GUARDRAILS, Checked
from tests.pipeline.jobs.watched_guardrails import Watched

FRAME = np.full((1, 48, 64, 3), 100, np.uint8)
SIZE = {"height": 48, "width": 64, "num_video_frames": 9}


def settings(prompt):
    return Video2WorldSettings(prompt=prompt, height=48, width=64, num_video_frames=9)


class Blackening(Watched):
    """Blocks the prompt "bad"; lets frames pass, but black."""

    def check_prompt(self, prompt):
        self.asked.append(prompt)
        return Verdict.block("it is bad") if prompt == "bad" else Verdict.allow("it is not")

    check_negative_prompt = check_prompt

    def check_video(self, frames, first_number):
        self.asked.append((frames.shape, first_number))
        return Checked({name: Verdict.allow("it is black") for name in FRAME_GUARDRAILS}, np.zeros_like(frames))


@pytest.fixture
def guarded_world(worlds):
    world = worlds["float32"]
    return Video2World(world.denoiser, world.codec, world.text_encoder, guardrails=Blackening())  # type: ignore[arg-type]


def test_a_blocked_prompt_ends_the_run_before_a_frame_is_read(guarded_world):
    def unread():
        raise AssertionError("a frame was read")
        yield

    with pytest.raises(Blocked, match="it is bad"):
        guarded_world.stream(unread(), settings("bad"))


def test_a_negative_prompt_that_frames_are_drawn_towards_is_checked(guarded_world):
    towards = replace(settings("good"), negative_prompt="bad", sampling=SampleSettings(guidance=-2.0, seed=1))
    with pytest.raises(Blocked, match="negative prompt"):
        guarded_world.stream(iter(()), towards)


def test_frames_are_those_that_the_guardrails_give_back(guarded_world):
    result = guarded_world.generate(FRAME, "good", num_steps=1, **SIZE)
    assert not result.frames.any()
    assert guarded_world.guardrails.asked == ["good", ((9, 48, 64, 3), 0)]
