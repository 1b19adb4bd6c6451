"""The networks of a request stay for the next that asks for the same ones, one pipeline at a time."""

from dataclasses import replace
from pathlib import Path

import pytest

from jax_interp.pipeline.jobs import kept_networks
from jax_interp.pipeline.jobs.kept_networks import KeptNetworks
from jax_interp.pipeline.memory.settings import MemorySettings
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.requests.request import GenerateRequest, Job
from jax_interp.pipeline.requests.settings import NetworkSettings
from jax_interp.pipeline.settings import InterpolationSettings, Video2WorldSettings


class Opened:
    """A pipeline that counts how often it is unloaded."""

    unloaded = 0

    def unload(self):
        self.unloaded += 1


def request(**job):
    return GenerateRequest(jobs=(Job(inputs=(), video=Path("a.mp4"), **job),))


@pytest.fixture
def kept():
    return KeptNetworks()


def test_nothing_is_kept_at_first(kept):
    assert kept.matching(request()) is None


def test_other_sizes_prompts_and_inputs_take_the_same_networks(kept):
    pipeline = kept.keep(request(), Opened())
    assert kept.matching(request(settings=InterpolationSettings(height=64, width=96, prompt="rain"))) is pipeline


@pytest.mark.parametrize(
    "other",
    [
        replace(request(), networks=NetworkSettings(dtype="float32")),
        replace(request(), guardrails=None),
        request(settings=Video2WorldSettings(prompt="rain")),
        request(upsampler=UpsamplerSettings()),
    ],
    ids=["dtype", "guardrails", "pipeline", "upsampler"],
)
def test_other_networks_replace_them(kept, other):
    first = kept.keep(request(), Opened())
    assert kept.matching(other) is None
    second = kept.keep(other, Opened())
    assert (first.unloaded, second.unloaded) == (1, 0)
    assert kept.matching(other) is second
    assert kept.matching(request()) is None


def test_dropped_networks_are_unloaded_and_gone(kept):
    pipeline = kept.keep(request(), Opened())
    kept.drop()
    kept.drop()
    assert pipeline.unloaded == 1
    assert kept.matching(request()) is None


def test_later_plans_have_what_was_free_before_the_process_reserved_it(kept, monkeypatch):
    free, limited = [80, 3, 3], []
    monkeypatch.setattr(kept_networks, "available", lambda memory: memory.budget or free.pop(0))
    monkeypatch.setattr(kept_networks, "limit_process", limited.append)
    assert kept.limited(MemorySettings()) == MemorySettings()
    assert kept.limited(MemorySettings()) == MemorySettings(budget=80)
    assert kept.limited(MemorySettings(budget=9)) == MemorySettings(budget=9)
    assert len(limited) == 1


def test_without_a_gpu_there_is_no_budget(kept, monkeypatch):
    monkeypatch.setattr(kept_networks, "available", lambda memory: None)
    monkeypatch.setattr(kept_networks, "limit_process", lambda memory: None)
    for _ in range(2):
        assert kept.limited(MemorySettings()) == MemorySettings()
