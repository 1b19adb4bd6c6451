"""The options about memory: what each becomes, and what is refused."""

import pytest

from jax_interp.cli.options.memory import parse_budget, parse_memory
from jax_interp.components import PLACEMENT_NAMES
from jax_interp.errors import UsageError
from jax_interp.pipeline.memory.settings import MemorySettings
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
    return parse_memory(budget, list(placements), resident_blocks, pairs, wanted)


@pytest.fixture
def parsed(monkeypatch):
    """Run `generate` with the given arguments up to the parsed settings; returns them."""

    class Stop(SystemExit):  # what ends the program on purpose is not explained
        pass

    def run(*arguments):
        seen = []

        def stop(flags):
            seen.append(flags)
            raise Stop

        with monkeypatch.context() as patched:
            patched.setattr("jax_interp.pipeline.jobs.kept_networks.limit_process", stop)
            jax_interp("generate", "--disable-guardrail", "--input", golden.CLIP, *arguments)
        [flags] = seen
        return flags

    return run


def test_upstreams_five_flags_are_one_placement_each(parsed):
    assert set(UPSTREAM.values()) == set(PLACEMENT_NAMES)
    for flag, name in UPSTREAM.items():
        for spelling in (flag, "--" + flag[2:].replace("-", "_")):
            assert parsed(spelling).placements == {name: OFFLOADED}
    assert parsed(*UPSTREAM).placements == dict.fromkeys(PLACEMENT_NAMES, OFFLOADED)
    assert parsed() == MemorySettings()


def test_the_options_of_the_command_line_arrive(parsed):
    flags = parsed(
        "--placement", "tokenizer=offloaded", "text-encoder=streamed", "--placement", "diffusion_transformer=resident",
        "--memory-budget", "6GiB", "--pairs_per_batch", 3,
    )  # fmt: skip
    placements = {"tokenizer": OFFLOADED, "text_encoder": STREAMED, "diffusion_transformer": RESIDENT}
    assert flags == MemorySettings(budget=6 * GIB, placements=placements, pairs_per_batch=3)
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
    assert parse_budget(text) == size


@pytest.mark.parametrize("text", ["", "GB", "8XB", "8GB9", "inf", "nan", "1e999GB", "0x10", "8,5GB", "-1"])
def test_what_is_no_amount(text):
    with pytest.raises(UsageError, match="--memory-budget"):
        parse_budget(text)
