"""What a run's memory settings become: what JAX may reserve, and where networks live."""

import os

import pytest

from jax_interp.config import CV8X8X8_720P, DIT_7B
from jax_interp.errors import OutOfMemory, UsageError
from jax_interp.pipeline.memory.available import SHARE_OF_FREE, available
from jax_interp.pipeline.memory.placing import limit_process, place
from jax_interp.pipeline.memory.plan import PROCESS_OVERHEAD, Planner
from jax_interp.pipeline.memory.settings import MemorySettings
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.pipeline.stage_classes import planned
from jax_interp.runtime.hardware import Gpu
from jax_interp.runtime.placement import Placement

GIB = 2**30
OFFLOADED, STREAMED, RESIDENT = Placement("offloaded"), Placement("streamed"), Placement()


def asked(placements=None, budget=None, pairs=None):
    return MemorySettings(budget=budget, placements=placements or {}, pairs_per_batch=pairs)


@pytest.fixture
def gpu(monkeypatch):
    """A machine with one GPU, whatever the tests run on; `gpu(free)` says how much of its 80 GiB is free."""
    for name in ("XLA_PYTHON_CLIENT_MEM_FRACTION", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)

    def equip(free=80 * GIB, platforms="cuda"):
        monkeypatch.setattr(
            "jax_interp.pipeline.memory.available.nvidia_gpus", lambda: (Gpu("H100", "570", 80 * GIB, free),)
        )
        monkeypatch.setenv("JAX_PLATFORMS", platforms)

    equip()
    yield equip
    os.environ.pop("XLA_PYTHON_CLIENT_MEM_FRACTION", None)


def test_a_budget_limits_what_jax_may_reserve(gpu):
    limit_process(asked(budget=8 * GIB))
    assert float(os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"]) == pytest.approx(
        (8 * GIB - PROCESS_OVERHEAD) / (80 * GIB), 1e-3
    )


def test_jax_may_reserve_what_auto_plans_with(gpu):
    """More than the three quarters of the GPU that JAX takes by itself, if that much is free."""
    settings = asked()
    limit_process(settings)
    share = float(os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"])
    assert 0.9 < share <= 0.95
    os.environ.pop("XLA_PYTHON_CLIENT_MEM_FRACTION")
    gpu(free=8 * GIB)
    limit_process(settings)
    assert float(os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"]) * 80 * GIB + PROCESS_OVERHEAD < 8 * GIB


def test_the_users_own_limit_is_left_alone(gpu, monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", ".5")
    limit_process(asked(budget=8 * GIB))
    assert os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] == ".5"


def test_what_is_available(gpu):
    assert available(asked(budget=8 * GIB)) == 8 * GIB
    gpu(free=10 * GIB)
    assert 9 * GIB < (available(asked()) or 0) < 10 * GIB
    gpu(platforms="cpu")
    assert available(asked()) is None


def test_the_gpu_is_the_fullest_that_cuda_shows(gpu, monkeypatch):
    gpus = tuple(Gpu("H100", "570", 80 * GIB, free * GIB) for free in (4, 70))
    monkeypatch.setattr("jax_interp.pipeline.memory.available.nvidia_gpus", lambda: gpus)
    for visible, free in (("1", 70), ("1,0", 4), ("0", 4), ("GPU-8f2a", 4)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert available(asked()) == int(SHARE_OF_FREE * free * GIB)
    for none in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        assert available(asked()) is None


class Placed:
    """Stands for an interpolator: takes placements and plans for the released networks."""

    def __init__(self):
        self.placements = {}

    def planner(self, settings):
        configs = {"tokenizer": CV8X8X8_720P, "diffusion_transformer": DIT_7B}
        each = [planned(name, config, "bfloat16") for name, config in configs.items()]
        return Planner({name: network for networks in each for name, network in networks.items()}, settings.workload())

    def place(self, placements):
        self.placements = dict(placements)


def place_in(memory, agree=lambda own: own, **settings):
    """What `memory` makes of the networks and of the number of pairs a pass."""
    interpolator = Placed()
    return place(memory, interpolator, InterpolationSettings(**settings), agree), interpolator.placements


def test_the_plan_is_for_what_all_processes_have(gpu):
    seen = []
    assert place_in(asked(budget=40 * GIB), lambda own: seen.append(own) or 8 * 10**9) == place_in(
        asked(budget=8 * 10**9)
    )
    assert seen == [40 * GIB]
    assert place_in(asked(budget=40 * GIB), lambda own: None) == (1, {})


def test_the_budget_chooses_placements(gpu):
    assert place_in(asked(budget=40 * GIB)) == (1, {"tokenizer": RESIDENT, "diffusion_transformer": RESIDENT})
    pairs, placements = place_in(asked(budget=8 * 10**9))
    assert (pairs, placements["diffusion_transformer"].kind, placements["tokenizer"]) == (2, "streamed", OFFLOADED)
    assert placements["diffusion_transformer"].resident_blocks > 0
    assert place_in(asked(budget=8 * 10**9), num_frame_pairs=1)[0] == 1
    assert place_in(asked(budget=8 * 10**9, pairs=1))[0] == 1


def test_the_users_placements_win_over_the_budget(gpu):
    wanted = {"diffusion_transformer": STREAMED, "prompt_upsampler": OFFLOADED, "text_encoder": OFFLOADED}
    settings = asked(wanted, budget=40 * GIB)
    pairs, placements = place_in(settings)
    assert (pairs, placements) == (2, {"tokenizer": RESIDENT, "diffusion_transformer": STREAMED})


def test_what_is_free_is_the_budget_where_none_is_given(gpu):
    gpu(free=8 * GIB)
    assert place_in(asked())[1]["diffusion_transformer"].kind == "streamed"
    gpu(free=2 * GIB)
    with pytest.raises(OutOfMemory, match="GPU memory are too little: the smallest plan"):
        place_in(asked())
    with pytest.raises(UsageError, match="GPU memory are too little: the smallest plan"):
        place_in(asked(budget=2 * GIB))


def test_without_a_gpu_only_what_was_asked_for_is_placed(gpu, caplog):
    caplog.set_level("INFO", "jax_interp")
    gpu(platforms="cpu")
    assert place_in(asked()) == (1, {})
    assert place_in(asked({"tokenizer": OFFLOADED}, pairs=3)) == (3, {"tokenizer": OFFLOADED})
    assert place_in(asked({"guardrail_models": OFFLOADED})) == (1, {})
    assert "guardrail_models: not part of this run" in caplog.text


def test_settings_that_can_never_work_are_named_together():
    with pytest.raises(UsageError, match=r"no network vae.*--memory-budget is 0 bytes.*--pairs-per-batch is 0"):
        MemorySettings(budget=0, placements={"vae": OFFLOADED}, pairs_per_batch=0)
