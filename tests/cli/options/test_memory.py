"""The options about memory: what each becomes, and what is refused."""

import os

import pytest

from jax_interp.cli.options import memory as memory_flags
from jax_interp.cli.options.memory import MemoryFlags, parse_bytes
from jax_interp.components import PLACEMENT_NAMES
from jax_interp.errors import OutOfMemory, UsageError
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.runtime.hardware import Gpu
from jax_interp.runtime.placement import Placement
from tests import golden
from tests.commands import jax_interp

GIB = 2**30
OFFLOADED, STREAMED, RESIDENT = Placement("offloaded"), Placement("streamed"), Placement()
UPSTREAM = {
    "--offload-prompt-upsampler": "prompt_upsampler",
    "--offload-guardrail-models": "guardrail_models",
    "--offload-text-encoder-model": "text_encoder",
    "--offload-tokenizer": "tokenizer",
    "--offload-diffusion-transformer": "diffusion_transformer",
}


def parse(placements=(), budget="auto", resident_blocks="auto", pairs="auto", offloaded=()):
    wanted = {name: name in offloaded for name in PLACEMENT_NAMES}
    return MemoryFlags.parse(budget, list(placements), resident_blocks, pairs, wanted)


@pytest.fixture
def parsed(monkeypatch):
    """Run `generate` with the given arguments up to the parsed flags; returns them."""

    class Stop(SystemExit):  # what ends the program on purpose is not explained
        pass

    def run(*arguments):
        seen = []

        def stop(flags):
            seen.append(flags)
            raise Stop

        with monkeypatch.context() as patched:
            patched.setattr(MemoryFlags, "limit_process", stop)
            jax_interp("generate", "--disable-guardrail", "--input", golden.CLIP, *arguments)
        [flags] = seen
        return flags

    return run


@pytest.fixture
def gpu(monkeypatch):
    """A machine with one GPU, whatever the tests run on; `gpu(free)` says how much of its 80 GiB is free."""
    for name in ("XLA_PYTHON_CLIENT_MEM_FRACTION", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)

    def equip(free=80 * GIB, platforms="cuda"):
        monkeypatch.setattr(memory_flags, "nvidia_gpus", lambda: (Gpu("H100", "570", 80 * GIB, free),))
        monkeypatch.setenv("JAX_PLATFORMS", platforms)

    equip()
    yield equip
    os.environ.pop("XLA_PYTHON_CLIENT_MEM_FRACTION", None)


def test_upstreams_five_flags_are_one_placement_each(parsed):
    assert set(UPSTREAM.values()) == set(PLACEMENT_NAMES)
    for flag, name in UPSTREAM.items():
        for spelling in (flag, "--" + flag[2:].replace("-", "_")):
            assert parsed(spelling).placements == {name: OFFLOADED}
    assert parsed(*UPSTREAM).placements == dict.fromkeys(PLACEMENT_NAMES, OFFLOADED)
    assert parsed() == MemoryFlags(None, {}, None)


def test_the_options_of_the_command_line_arrive(parsed):
    flags = parsed(
        "--placement", "tokenizer=offloaded", "text-encoder=streamed", "--placement", "diffusion_transformer=resident",
        "--memory-budget", "6GiB", "--pairs_per_batch", 3,
    )  # fmt: skip
    placements = {"tokenizer": OFFLOADED, "text_encoder": STREAMED, "diffusion_transformer": RESIDENT}
    assert flags == MemoryFlags(6 * GIB, placements, 3)
    assert parsed("--resident-blocks", 4).placements == {"diffusion_transformer": Placement("streamed", 4)}


def test_resident_blocks_fit_a_streamed_transformer_and_nothing_else():
    assert parse(["diffusion_transformer=streamed"], resident_blocks="0").placements == {
        "diffusion_transformer": STREAMED
    }
    elsewhere = ["diffusion_transformer=resident"], ["diffusion_transformer=offloaded"], []
    for placements in elsewhere:
        with pytest.raises(UsageError, match="--resident-blocks is for a streamed diffusion_transformer"):
            parse(placements, resident_blocks="3", offloaded=[] if placements else ["diffusion_transformer"])


def test_saying_the_same_twice_is_no_contradiction():
    assert parse(["tokenizer=offloaded", "tokenizer=offloaded"], offloaded=["tokenizer"]).placements == {
        "tokenizer": OFFLOADED
    }
    for other in (["tokenizer=streamed"], ["tokenizer=offloaded", "tokenizer=resident"]):
        with pytest.raises(UsageError, match=r"--placement tokenizer=.*: contradicts another option"):
            parse(other, offloaded=["tokenizer"])


NAMES = ", ".join(PLACEMENT_NAMES)
KINDS = "resident, sharded, offloaded, streamed"


@pytest.mark.parametrize(
    ("arguments", "named", "choices"),
    [
        (("--placement", "unet=streamed"), "--placement unet=streamed", f"{NAMES} and KIND one of"),
        (("--placement", "tokenizer=disk"), "--placement tokenizer=disk", KINDS),
        (("--placement", "tokenizer"), "--placement tokenizer:", KINDS),
        (("--placement", "tokenizer="), "--placement tokenizer=:", KINDS),
        (("--placement", "=streamed"), "--placement =streamed", "diffusion_transformer"),
        (("--placement", "tokenizer=resident", "vae=resident"), "--placement vae=resident", "tokenizer"),
        (("--resident-blocks", "many"), "--resident-blocks many", "auto or a whole number from 0"),
        (("--resident-blocks", -1), "--resident-blocks -1", "auto or a whole number from 0"),
        (("--resident-blocks", 1.5), "--resident-blocks 1.5", "auto or a whole number from 0"),
        (("--pairs-per-batch", 0), "--pairs-per-batch 0", "auto or a whole number from 1"),
        (("--pairs-per-batch", "two"), "--pairs-per-batch two", "auto or a whole number from 1"),
        (("--memory-budget", "lots"), "--memory-budget lots", "8GB or 6GiB, or auto"),
        (("--memory-budget", "0GB"), "--memory-budget 0GB", "8GB or 6GiB, or auto"),
        (("--memory-budget", "-8GB"), "--memory-budget -8GB", "8GB or 6GiB, or auto"),
        (("--memory-budget", "8 apples"), "--memory-budget 8 apples", "8GB or 6GiB, or auto"),
    ],
)
def test_bad_values_name_the_flag_and_the_choices(tmp_path, arguments, named, choices):
    outcome = jax_interp(
        "generate", "--disable-guardrail", "--input", golden.CLIP, "--checkpoint-dir", tmp_path, *arguments
    )
    assert outcome.code == UsageError.exit_code
    assert named in outcome.output
    assert choices in outcome.output
    assert "Traceback" not in outcome.output


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * 10**9), ("8gb", 8 * 10**9), ("6GiB", 6 * GIB), ("5.5 GiB", 11 * GIB // 2), ("512MiB", 2**29),
        ("512 mb", 512 * 10**6), ("2000000", 2 * 10**6), ("2097152b", 2**21), ("2048KiB", 2**21),
    ],
)  # fmt: skip
def test_amounts(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "8XB", "8GB9", "inf", "nan", "1e999GB", "0x10", "8,5GB", "-1"])
def test_what_is_no_amount(text):
    with pytest.raises(UsageError, match="--memory-budget"):
        parse_bytes(text)


def test_a_budget_limits_what_jax_may_reserve(gpu):
    from jax_interp.pipeline.memory.plan import PROCESS

    parse(budget="8GiB").limit_process()
    assert float(os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"]) == pytest.approx((8 * GIB - PROCESS) / (80 * GIB), 1e-3)


def test_jax_may_reserve_what_auto_plans_with(gpu):
    """More than the three quarters of the GPU that JAX takes by itself, if that much is free."""
    from jax_interp.pipeline.memory.plan import PROCESS

    flags = parse()
    flags.limit_process()
    share = float(os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"])
    assert 0.9 < share <= 0.95
    os.environ.pop("XLA_PYTHON_CLIENT_MEM_FRACTION")
    gpu(free=8 * GIB)
    flags.limit_process()
    assert float(os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"]) * 80 * GIB + PROCESS < 8 * GIB


def test_the_users_own_limit_is_left_alone(gpu, monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", ".5")
    parse(budget="8GiB").limit_process()
    assert os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] == ".5"


def test_what_is_available(gpu):
    assert parse(budget="8GiB").available() == 8 * GIB
    gpu(free=10 * GIB)
    assert 9 * GIB < (parse().available() or 0) < 10 * GIB
    gpu(platforms="cpu")
    assert parse().available() is None


def test_the_gpu_is_the_fullest_that_cuda_shows(gpu, monkeypatch):
    gpus = tuple(Gpu("H100", "570", 80 * GIB, free * GIB) for free in (4, 70))
    monkeypatch.setattr(memory_flags, "nvidia_gpus", lambda: gpus)
    for visible, free in (("1", 70), ("1,0", 4), ("0", 4), ("GPU-8f2a", 4)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert parse().available() == int(memory_flags.SHARE_OF_FREE * free * GIB)
    for none in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        assert parse().available() is None


class Placed:
    """Stands for an interpolator: takes placements and plans for the released networks."""

    def __init__(self):
        self.placements = {}

    def planner(self, settings):
        from jax_interp.config import CV8X8X8_720P, DIT_7B
        from jax_interp.pipeline.memory.plan import Planner
        from jax_interp.pipeline.stage_classes import planned

        configs = {"tokenizer": CV8X8X8_720P, "diffusion_transformer": DIT_7B}
        each = [planned(name, config, "bfloat16") for name, config in configs.items()]
        return Planner({name: network for networks in each for name, network in networks.items()}, settings.workload())

    def place(self, placements):
        self.placements = dict(placements)


def place(flags, **settings):
    """What `flags` make of the networks and of the number of pairs a pass."""
    interpolator = Placed()
    return flags.place(interpolator, InterpolationSettings(**settings)), interpolator.placements


def test_the_budget_chooses_placements(gpu):
    assert place(parse(budget="40GiB")) == (1, {"tokenizer": RESIDENT, "diffusion_transformer": RESIDENT})
    pairs, placements = place(parse(budget="8GB"))
    assert (pairs, placements["diffusion_transformer"].kind, placements["tokenizer"]) == (2, "streamed", OFFLOADED)
    assert placements["diffusion_transformer"].resident_blocks > 0
    assert place(parse(budget="8GB"), num_frame_pairs=1)[0] == 1
    assert place(parse(budget="8GB", pairs="1"))[0] == 1


def test_the_users_placements_win_over_the_budget(gpu):
    flags = parse(["diffusion_transformer=streamed"], budget="40GiB", offloaded=["prompt_upsampler", "text_encoder"])
    pairs, placements = place(flags)
    assert (pairs, placements) == (2, {"tokenizer": RESIDENT, "diffusion_transformer": STREAMED})


def test_what_is_free_is_the_budget_where_none_is_given(gpu):
    gpu(free=8 * GIB)
    assert place(parse())[1]["diffusion_transformer"].kind == "streamed"
    gpu(free=2 * GIB)
    with pytest.raises(OutOfMemory, match="GPU memory are too little: the smallest plan"):
        place(parse())
    with pytest.raises(UsageError, match="GPU memory are too little: the smallest plan"):
        place(parse(budget="2GiB"))


def test_without_a_gpu_only_what_was_asked_for_is_placed(gpu, caplog):
    caplog.set_level("INFO", "jax_interp")
    gpu(platforms="cpu")
    assert place(parse()) == (1, {})
    assert place(parse(["tokenizer=offloaded"], pairs="3")) == (3, {"tokenizer": OFFLOADED})
    assert place(parse(offloaded=["guardrail_models"])) == (1, {})
    assert "guardrail_models: not part of this run" in caplog.text
