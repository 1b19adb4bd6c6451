"""`jax-interp upsample`, and `generate` where the prompt upsampler writes the prompt."""

import json

import imageio.v3 as iio
import jax
import numpy as np
import pytest

from jax_interp.errors import CheckpointError, JaxInterpError, MediaError, OutOfMemory, UsageError
from jax_interp.media.reader import last_frame
from jax_interp.pipeline.prompt.prompt_upsampler import PromptUpsampler
from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
from jax_interp.pipeline.stages.language_model import LanguageModel
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.terminal import one_line
from tests import golden
from tests.commands import jax_interp

SHORT = ("--upsampler-tokens", 6)


@pytest.fixture(scope="module")
def folder(converted, tmp_path_factory):
    """The golden networks with a tiny Pixtral beside them."""
    from tests.convert.pixtral_checkpoints import write_pixtral  # needs torch

    root = tmp_path_factory.mktemp("upsample")
    outcome = jax_interp("convert", "--checkpoint-dir", write_pixtral(root / "pt"), "--output-dir", root / "all")
    assert outcome.code == 0, outcome.output
    for path in converted.iterdir():
        if not path.name.startswith("."):
            (root / "all" / path.name).symlink_to(path)
    return root / "all"


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "frame.png"
    iio.imwrite(path, np.random.default_rng(3).integers(0, 256, (40, 56, 3), np.uint8))
    return path


@pytest.fixture
def generate(folder, tmp_path):
    """Run `generate` on one pair of the golden clip."""
    fixed = ("--checkpoint-dir", folder, "--video-save-folder", tmp_path / "out", "--height", 32, "--width", 32)
    fixed += ("--num-steps", 1, "--num-frame-pairs", 1, "--dtype", "float32", *SHORT)
    return lambda *arguments: jax_interp("generate", "--disable-guardrail", "--input", golden.CLIP, *fixed, *arguments)


def record(tmp_path, name="output"):
    return json.loads((tmp_path / "out" / f"{name}.json").read_text())


def written(folder, picture, **changes):
    """What the upsampler writes about `picture` with the settings of these tests."""
    upsampler = PromptUpsampler(find_component(folder, "prompt_upsampler"), "float32")
    return upsampler.upsample(picture, UpsamplerSettings(**{"max_new_tokens": 6, **changes}), seed=11)


@pytest.mark.slow
def test_a_picture(folder, picture, tmp_path):
    outcome = jax_interp(
        "upsample", picture, "--checkpoint-dir", folder, "--dtype", "float32", *SHORT, "--output", tmp_path / "p.txt"
    )
    assert outcome.code == 0, outcome.output
    expected = written(folder, iio.imread(picture))
    assert outcome.output.endswith(one_line(expected))
    assert (tmp_path / "p.txt").read_text() == f"{expected}\n"


def test_a_file_that_is_there_is_replaced_only_when_told(folder, picture, tmp_path):
    (tmp_path / "p.txt").write_text("mine")
    command = ("upsample", picture, "--checkpoint-dir", folder, "--dtype", "float32", *SHORT)
    command = (*command, "--output", tmp_path / "p.txt")
    outcome = jax_interp(*command)
    assert outcome.code == UsageError.exit_code
    assert "p.txt: is there already; choose another name, or pass --overwrite to replace it" in outcome.output
    assert (tmp_path / "p.txt").read_text() == "mine"
    outcome = jax_interp(*command, "--overwrite")
    assert outcome.code == 0, outcome.output
    assert (tmp_path / "p.txt").read_text() == f"{written(folder, iio.imread(picture))}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["p.txt"]


def test_overwriting_spares_the_picture_itself(folder, picture):
    before = picture.read_bytes()
    outcome = jax_interp("upsample", picture, "--checkpoint-dir", folder, "--output", picture, "--overwrite")
    assert outcome.code == UsageError.exit_code
    assert "is what the prompt is written about" in outcome.output
    assert picture.read_bytes() == before


@pytest.mark.slow
def test_a_clip_counts_by_its_last_frame(folder):
    outcome = jax_interp("upsample", golden.CLIP, "--checkpoint-dir", folder, "--dtype", "float32", *SHORT)
    *_, last = iio.imiter(golden.CLIP)
    assert outcome.output.endswith(one_line(written(folder, last_frame([golden.CLIP]))))
    np.testing.assert_allclose(last_frame([golden.CLIP]).astype(int), last.astype(int), atol=4)


@pytest.mark.parametrize("placement", ["offloaded", "streamed"])
def test_placements(folder, picture, placement):
    outcome = jax_interp(
        "upsample", picture, "--checkpoint-dir", folder, "--dtype", "float32", *SHORT, "--placement", placement
    )
    assert outcome.output.endswith(one_line(written(folder, iio.imread(picture))))


def bad_picture(tmp_path, kind):
    path = tmp_path / "bad.png"
    if kind == "unreadable":
        path.write_bytes(b"no picture")
    elif kind == "elongated":
        iio.imwrite(path, np.zeros((100 // 20, 20000 // 20, 3), np.uint8))
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [("unreadable", "cannot be read as a picture"), ("missing", "no such file"), ("elongated", "too elongated")],
)
def test_pictures_that_cannot_be(folder, tmp_path, kind, said):
    outcome = jax_interp("upsample", bad_picture(tmp_path, kind), "--checkpoint-dir", folder, *SHORT)
    assert outcome.code == MediaError.exit_code
    assert said in outcome.output


@pytest.mark.parametrize(
    ("flags", "said", "error"),
    [
        (("--upsampler-tokens", 0), "--upsampler-tokens is 0", UsageError),
        (("--upsampler-instruction", ""), "--upsampler-instruction is empty", UsageError),
        (("--seed", -1), "--seed is -1", UsageError),
        (("--placement", "moon"), "not one of 'resident', 'offloaded', 'streamed'", UsageError),
        (("--output", "no/such/folder/p.txt"), "there is no folder", UsageError),
        (("--checkpoint-dir", "nowhere"), "nowhere: no such folder", CheckpointError),
        (("--upsampler-tokens", 200000), "do not fit the prompt_upsampler, whose context is", UsageError),
    ],
)
def test_flags_that_cannot_work(folder, picture, flags, said, error):
    outcome = jax_interp("upsample", picture, "--checkpoint-dir", folder, *flags)
    assert (outcome.code, said in outcome.output) == (error.exit_code, True), outcome.output


def test_a_folder_without_an_upsampler(converted, picture):
    outcome = jax_interp("upsample", picture, "--checkpoint-dir", converted)
    assert outcome.code == CheckpointError.exit_code
    assert "--components prompt_upsampler" in outcome.output


@pytest.mark.slow
def test_generate_writes_a_prompt_where_it_counts(generate, folder, tmp_path):
    outcome = generate("--guidance", 0)
    assert outcome.code == 0, outcome.output
    expected = written(folder, last_frame([golden.CLIP]))
    assert (tmp_path / "out/output.txt").read_text() == f"{expected}\n"
    made = record(tmp_path)
    assert made["settings"]["prompt"] == expected
    assert made["prompt_upsampler"]["max_new_tokens"] == 6
    assert made["networks"]["prompt_upsampler"]["folder"] == "Pixtral-12B"
    assert made["seconds"]["upsample"] > 0


@pytest.mark.slow
def test_another_instruction_is_another_prompt(generate, folder, tmp_path):
    assert generate("--guidance", 0, "--upsampler-instruction", "What moves?").code == 0
    expected = written(folder, last_frame([golden.CLIP]), instruction="What moves?")
    assert record(tmp_path)["settings"]["prompt"] == expected != written(folder, last_frame([golden.CLIP]))


@pytest.mark.slow
def test_it_is_skipped_where_the_prompt_cannot_count(generate, tmp_path):
    outcome = generate()
    assert outcome.output.count("prompt upsampler: skipped, since at guidance -1") == 1
    assert (record(tmp_path)["prompt_upsampler"], record(tmp_path)["settings"]["prompt"]) == ("not used", "")
    assert generate("--prompt-upsampler").code == 0
    assert record(tmp_path)["settings"]["prompt"]


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "prompt"), [(("--disable_prompt_upsampler",), ""), (("--prompt", "rain"), "rain")])
def test_it_can_be_left_out(generate, tmp_path, flags, prompt):
    assert generate("--guidance", 0, *flags).code == 0
    assert (record(tmp_path)["prompt_upsampler"], record(tmp_path)["settings"]["prompt"]) == ("not used", prompt)


def test_a_prompt_and_the_upsampler_contradict_each_other(generate):
    outcome = generate("--prompt", "rain", "--prompt-upsampler")
    assert (outcome.code, "give one of them" in outcome.output) == (UsageError.exit_code, True)


def test_without_one_the_user_has_to_choose(converted, tmp_path):
    where = ("--checkpoint-dir", converted, "--video-save-folder", tmp_path / "out")
    outcome = jax_interp("generate", "--disable-guardrail", "--input", golden.CLIP, "--guidance", 1, *where)
    assert outcome.code == UsageError.exit_code
    assert "has no prompt upsampler to write one: give --prompt, fetch one" in outcome.output
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_lines_of_a_batch_without_a_prompt_get_one(folder, tmp_path):
    lines = [{"visual_input": str(golden.CLIP), "name": "own", "prompt": "rain"}]
    lines.append({"visual_input": str(golden.CLIP), "name": "written"})
    (tmp_path / "batch.jsonl").write_text("\n".join(map(json.dumps, lines)))
    arguments = (
        *(
            "generate",
            "--disable-guardrail",
            "--batch-input-path",
            tmp_path / "batch.jsonl",
            "--checkpoint-dir",
            folder,
            *SHORT,
        ),
        *("--video-save-folder", tmp_path / "out", "--height", 32, "--width", 32, "--num-steps", 1),
        *("--num-frame-pairs", 1, "--guidance", 0, "--dtype", "float32"),
    )
    outcome = jax_interp(*arguments)
    assert outcome.code == 0, outcome.output
    prompts = {name: record(tmp_path, name)["settings"]["prompt"] for name in ("own", "written")}
    assert prompts == {"own": "rain", "written": written(folder, last_frame([golden.CLIP]))}
    assert jax_interp(*arguments).output.count("already there") == 2


@pytest.mark.slow
def test_an_interrupted_run_keeps_its_prompt(generate, folder, tmp_path, monkeypatch):
    """The prompt is not written again: it might come out otherwise on another device."""
    from jax_interp.pipeline.stages.denoiser import Denoiser

    def fail(*_, **__):
        raise JaxInterpError("interrupted")

    with monkeypatch.context() as patched:
        patched.setattr(Denoiser, "sample", fail)
        assert generate("--guidance", 0).code == JaxInterpError.exit_code
    monkeypatch.setattr(PromptUpsampler, "upsample", fail)
    outcome = generate("--guidance", 0)
    assert outcome.code == 0, outcome.output
    assert record(tmp_path)["settings"]["prompt"] == (tmp_path / "out/output.txt").read_text().strip() != ""
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []


@pytest.fixture
def no_memory(monkeypatch):
    def fail(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1234567890 bytes.")

    monkeypatch.setattr(LanguageModel, "answer", fail)


def test_memory_that_runs_out_is_answered_with_a_plan(folder, picture, tmp_path, no_memory):
    command = ("upsample", picture, "--checkpoint-dir", folder, "--dtype", "float32", *SHORT)
    outcome = jax_interp(*command, "--output", tmp_path / "p.txt")
    assert outcome.code == OutOfMemory.exit_code
    assert "error: out of memory in the stage 'upsample' with prompt_upsampler resident; the plan" in outcome.output
    assert "run again with --memory-budget" in outcome.output
    assert not (tmp_path / "p.txt").exists()
    streamed = jax_interp(*command, "--placement", "streamed")
    assert streamed.code == OutOfMemory.exit_code
    assert "No plan takes less: give it a larger GPU" in streamed.output
    assert "--height" not in outcome.output + streamed.output  # it has no such option


def test_advice_to_a_run_is_about_the_size_that_was_asked_for(generate, no_memory):
    outcome = generate("--guidance", 0)
    assert outcome.code == OutOfMemory.exit_code
    assert "out of memory in the stage 'upsample' at 32×32, with " in outcome.output


def test_a_budget_that_is_too_small_is_refused_without_a_size(folder, picture):
    outcome = jax_interp("upsample", picture, "--checkpoint-dir", folder, *SHORT, "--memory-budget", "2MiB")
    assert outcome.code == UsageError.exit_code
    assert "0.0 GiB of GPU memory are too little: the smallest plan takes" in outcome.output
