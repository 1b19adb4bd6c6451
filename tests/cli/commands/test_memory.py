"""`jax-interp memory`: plans for any resolution, from a converted folder or from the released sizes."""

import re
import shutil

import pytest

from jax_interp.errors import CheckpointError, OutOfMemory, UsageError
from jax_interp.pipeline.memory import available
from jax_interp.runtime.checkpoint import loading
from jax_interp.runtime.checkpoint.converted import open_component
from jax_interp.runtime.hardware import Gpu
from tests import golden
from tests.commands import jax_interp
from tests.convert.checkpoints import DIT, T5
from tests.guardrails.tiny_guards import link_networks

GIB = 2**30
GOLDEN_SIZE = ("--height", 64, "--width", 96)
STRATEGIES = ["nothing offloaded", "+ text_encoder", "+ tokenizer", "+ diffusion_transformer"]


@pytest.fixture(autouse=True)
def bare_machine(tmp_path, monkeypatch):
    """No GPU, whatever the tests run on, and no networks in the folder that the command runs in."""
    monkeypatch.setattr(available, "nvidia_gpus", lambda: ())
    monkeypatch.chdir(tmp_path)


def memory(*arguments, guarded=False):
    """What the command prints, of runs without guardrails unless it is said."""
    outcome = jax_interp("memory", *arguments, *(() if guarded else ("--disable-guardrail",)))
    assert outcome.code == 0, outcome.output
    return outcome.output


def row(output, name):
    """The cells of a table's row behind its name."""
    network, strategy = (
        r"(float32|bfloat16) ([\d.]+) (\d+ × [\d.]+|-) ([\d.]+)",
        r"([\d.]+) ([a-z_/]+) ([\d.]+) ([\d.]+)",
    )
    found = re.search(rf"(?<!\S){re.escape(name)} (?:{network}|{strategy})(?!\S)", output)
    assert found, output
    return [cell for cell in found.groups() if cell is not None]


def test_the_released_networks():
    output = memory("--model", "7B", "--memory-budget", "8GB")
    assert output.startswith("the released 7B networks, 704×1280, 10 frames a pair; all numbers in GiB")
    assert row(output, "text_encoder")[:3] == ["float32", "18.12", "24 × 0.75"]
    assert row(output, "tokenizer")[:3] == ["bfloat16", "0.20", "-"]
    assert row(output, "diffusion_transformer")[:3] == ["bfloat16", "13.48", "28 × 0.48"]
    larger = memory("--model", "14B", "--memory-budget", "8GB")
    assert row(larger, "diffusion_transformer")[:3] == ["bfloat16", "26.57", "36 × 0.73"]


def test_every_strategy_has_its_peak_and_its_host_memory():
    output = memory("--model", "7B")
    rows = {name: row(output, name) for name in [*STRATEGIES, "all streamed, 1 a pass", "all streamed, 2 a pass"]}
    peaks = [float(cells[0]) for cells in rows.values()]
    assert peaks[:4] == sorted(peaks[:4], reverse=True)
    assert max(peaks[4:]) < 4 < min(peaks[:4])
    for cells in rows.values():
        assert float(cells[2]) == pytest.approx(float(cells[0]) + 1.125, abs=0.011)
    assert [float(cells[3]) for cells in rows.values()] == [0, 0, 0.2, 13.68, 13.68, 13.68]
    assert "GPU in all: the peak and 1.12 that the process itself takes" in output


def test_the_budget_chooses_a_plan():
    small, large = (memory("--model", "7B", "--memory-budget", budget) for budget in ("8GB", "40GiB"))
    assert "in 7.5 GiB of GPU memory: text_encoder streamed, tokenizer offloaded, diffusion_transformer str" in small
    assert re.search(
        r"\d+ blocks resident; 2 pairs a pass takes \d\.\d GiB of the GPU, and 13\.7 GiB of host memory", small
    )
    assert "in 40.0 GiB of GPU memory: text_encoder resident, tokenizer resident" in large
    single = memory("--model", "7B", "--memory-budget", "8GB", "--pairs-per-batch", 1)
    assert "pairs a pass takes" not in single
    assert "all streamed, 2 a pass" not in single


def test_resolution_guidance_and_dtypes_count():
    def transformer(*arguments):
        return float(row(memory("--model", "7B", *arguments), "diffusion_transformer")[3])

    usual = transformer()
    assert transformer("--height", 352) < 0.7 * usual
    assert transformer("--num-video-frames", 18) > usual
    assert transformer("--guidance", 1) > 1.5 * usual
    assert transformer("--guidance", 0) == usual
    output = memory("--model", "7B", "--dtype", "float32", "--text-encoder-dtype", "bfloat16")
    assert row(output, "diffusion_transformer")[:2] == ["float32", "26.96"]
    assert row(output, "text_encoder")[:2] == ["bfloat16", "9.06"]


def test_without_a_gpu_and_without_a_budget():
    output = memory("--model", "7B")
    assert "no GPU found: --memory-budget 8GB shows the plan" in output
    assert "GiB of GPU memory:" not in output


@pytest.fixture
def gpu(monkeypatch):
    def equip(free):
        monkeypatch.setattr(available, "nvidia_gpus", lambda: (Gpu("H100", "570", 80 * GIB, free),))
        monkeypatch.setenv("JAX_PLATFORMS", "cuda")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return equip


def test_what_is_free_on_the_gpu(gpu):
    gpu(free=20 * GIB)
    output = memory("--model", "7B")
    assert "in 19.4 GiB of GPU memory: text_encoder streamed, tokenizer resident, diffusion_transformer res" in output


def test_too_little_is_said_below_the_tables(gpu):
    gpu(free=1 * GIB)
    free = jax_interp("memory", "--model", "7B")
    given = jax_interp("memory", "--model", "7B", "--memory-budget", "1GiB")
    assert (free.code, given.code) == (OutOfMemory.exit_code, UsageError.exit_code)
    for outcome in (free, given):
        assert "all streamed, 1 a pass" in outcome.output
        assert "of GPU memory are too little: the smallest plan at 704×1280 takes" in outcome.output


def test_more_host_memory_than_there_is(monkeypatch):
    monkeypatch.setattr("jax_interp.runtime.hardware.host_memory", lambda: (4 * GIB, 8 * GIB))
    output = memory("--model", "7B", "--memory-budget", "8GB")
    assert "of which 4.00 are free here" in output
    assert "13.7 GiB of host memory, which is more than is free here" in output


def test_guardrails_count_unless_they_are_off(converted, guarded, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    output = memory("--model", "7B", guarded=True)
    assert row(output, "guardrail_models/text_safety")[:3] == ["bfloat16", "13.98", "32 × 0.41"]
    assert row(output, "guardrail_models/video_safety")[:2] == ["float32", "1.60"]
    assert "+ guardrail_models" in output
    assert "guardrail_models" not in memory("--model", "7B")
    assert "guardrail_models" not in memory("--checkpoint-dir", converted, *GOLDEN_SIZE, guarded=True)


def test_the_prompt_upsampler_counts_if_it_is_asked_for(converted, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    output = memory("--model", "7B", "--prompt-upsampler", "--memory-budget", "8GB")
    assert row(output, "prompt_upsampler/language")[:3] == ["bfloat16", "21.56", "40 × 0.51"]
    assert "of GPU memory: prompt_upsampler streamed, text_encoder streamed" in output
    outcome = jax_interp("memory", "--checkpoint-dir", converted, *GOLDEN_SIZE, "--prompt-upsampler")
    assert outcome.code == CheckpointError.exit_code
    assert "has no prompt_upsampler" in outcome.output


def test_which_of_several_guardrails(converted, guarded, tmp_path):
    folder = link_networks(shutil.copytree(guarded, tmp_path / "several"), converted)
    [blur] = folder.rglob("face_blur_filter")
    blur.rename(folder / "one")
    shutil.copytree(folder / "one", folder / "another")
    outcome = jax_interp("memory", "--checkpoint-dir", folder, *GOLDEN_SIZE)
    assert outcome.code == CheckpointError.exit_code
    assert "choose one with --face-blur-dir" in outcome.output
    assert "guardrail_models/" in memory(
        "--checkpoint-dir", folder, "--face-blur-dir", "another", *GOLDEN_SIZE, guarded=True
    )


def test_networks_can_be_placed(monkeypatch):
    """The plan then has them there, and no other network moves for want of memory."""
    large = ("--model", "7B", "--memory-budget", "70GiB")
    assert "of GPU memory: text_encoder resident, tokenizer resident, diffusion_transformer resident" in memory(*large)
    output = memory(*large, "--placement", "text_encoder=streamed", "tokenizer=offloaded", "--resident-blocks", 4)
    wanted = "text_encoder streamed, tokenizer offloaded, diffusion_transformer streamed, 4 blocks resident"
    assert f"of GPU memory: {wanted}" in output
    assert "guardrail_models: not part of this run" in memory(*large, "--placement", "guardrail_models=streamed")
    # without a GPU and without a budget, too
    placed = "text_encoder resident, tokenizer resident, diffusion_transformer streamed, 28 blocks resident"
    assert f"placed so: {placed} takes" in memory("--model", "7B", "--resident-blocks", 28)
    assert "placed so" not in memory("--model", "7B")
    outcome = jax_interp("memory", "--model", "7B", "--resident-blocks", 29)
    assert outcome.code == UsageError.exit_code
    assert "(--resident-blocks) is 29: this diffusion_transformer has 28 blocks" in outcome.output


def test_advice_is_what_helps(gpu):
    def advice(*arguments):
        outcome = jax_interp("memory", "--model", "7B", *arguments)
        assert outcome.code == UsageError.exit_code
        return outcome.output.split("Give more memory")[1]

    text = ("--disable-guardrail", "--text-encoder-dtype", "bfloat16")
    assert advice("--memory-budget", "4GiB") == ""  # the guardrail of prompts, at every size of a frame
    assert "or choose a smaller --height" in advice("--memory-budget", "3GiB", *text, "--height", 1024, "--width", 1920)
    placed = ("--placement", "diffusion_transformer=resident")
    assert advice("--memory-budget", "8GB", *placed) == ", or leave it to the plan where diffusion_transformer lives"
    assert "--text-encoder-dtype bfloat16" in advice("--memory-budget", "3GiB", "--disable-guardrail")


def test_a_converted_folder(converted, monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("parameters were read")

    for reader in ("read_arrays", "read_params"):
        monkeypatch.setattr(loading, reader, never)
    output = memory("--checkpoint-dir", converted, *GOLDEN_SIZE, "--dtype", "float32")
    assert output.startswith(f"{converted}, 64×96")
    config = open_component(converted / DIT).config
    assert row(output, "diffusion_transformer")[2] == f"{config.num_blocks} × 0.00"


def test_the_default_folder_comes_before_the_released_sizes(converted, tmp_path):
    assert memory().startswith("no folder converted here: the released 7B networks, 704×1280")
    shutil.copytree(converted, tmp_path / "converted")
    assert memory(*GOLDEN_SIZE).startswith("converted, 64×96")
    assert memory("--model", "7B").startswith("the released 7B networks")


def test_a_folder_without_a_text_encoder(converted, tmp_path):
    shutil.copytree(converted, tmp_path / "partly")
    shutil.rmtree(tmp_path / "partly" / T5)
    output = memory("--checkpoint-dir", "partly", *GOLDEN_SIZE)
    assert output.startswith("partly, without a text encoder, 64×96")
    assert "+ text_encoder" not in output
    assert "+ tokenizer" in output


def test_which_of_several_transformers(converted, tmp_path):
    folder = shutil.copytree(converted, tmp_path / "several")
    (folder / DIT).rename(folder / "one")
    shutil.copytree(folder / "one", folder / "two")
    outcome = jax_interp("memory", "--checkpoint-dir", folder, *GOLDEN_SIZE)
    assert outcome.code == CheckpointError.exit_code
    assert "choose one with --diffusion-transformer-dir: one, two" in outcome.output
    assert row(
        memory("--checkpoint-dir", folder, "--diffusion-transformer-dir", "two", *GOLDEN_SIZE), "diffusion_transformer"
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--height", 700), UsageError, "--height 700: expected a multiple of 16 from 16 to 1920 (nearest: 704)"),
        (("--width", 4096), UsageError, "--width 4096: expected a multiple of 16"),
        (("--num-video-frames", 9), UsageError, "--num-video-frames 9: allowed are 10, 18"),
        (("--guidance", "nan"), UsageError, "--guidance is nan"),
        (("--memory-budget", "much"), UsageError, "--memory-budget much: expected"),
        (("--pairs-per-batch", 0), UsageError, "--pairs-per-batch 0: expected"),
        (("--model", "8B"), UsageError, "Invalid value for '--model': '8B' is not one of '7B', '14B'"),
        (("--model", "7B", "--checkpoint-dir", "here"), UsageError, "--model 7B is for the released networks"),
        (("--model", "7B", "--tokenizer-dir", "here"), UsageError, "--model 7B is for the released networks"),
        (("--checkpoint-dir", "nowhere"), CheckpointError, "nowhere: no such folder"),
        (("--tokenizer-dir", "x"), CheckpointError, "converted: no such folder"),
        (("--model", "7B", "--face-blur-dir", "here"), UsageError, "--model 7B is for the released networks"),
        (("--disable-guardrail", "--face-blur-dir", "x"), UsageError, "contradicts --face-blur-dir"),
        (("--mesh", "tensor=3"), UsageError, "tensor=3 does not divide the 128 attention heads"),
        (("--placement", "dit=streamed"), UsageError, "--placement dit=streamed: no such network"),
        (("--checkpoint-dir", golden.CHECKPOINTS), CheckpointError, "not converted"),
    ],
)
def test_bad_input(arguments, error, message):
    outcome = jax_interp("memory", *arguments)
    assert outcome.code == error.exit_code
    assert message in outcome.output
    assert "┃" not in outcome.output
    assert "Traceback" not in outcome.output


@pytest.mark.parametrize(
    ("options", "said"),
    [((), "139.78"), (("--lora-rank", 8), "18."), (("--optimizer-on-host",), "host: 107.")],
    ids=["full", "adapter", "on the host"],
)
def test_training(options, said):
    outcome = jax_interp("memory", "--model", "7B", "--disable-guardrail", "--train", *options)
    assert outcome.code == 0, outcome.output
    assert "training the transformer of the released 7B networks, 704×1280" in outcome.output
    assert said in outcome.output, outcome.output
