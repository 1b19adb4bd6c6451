"""`--quantization` of every command that has it."""

import json
import re

import pytest

from jax_interp.errors import UsageError
from jax_interp.pipeline.memory import available
from tests import golden
from tests.commands import jax_interp
from tests.convert.checkpoints import DIT, TOKENIZER

TINY = ("--height", 16, "--width", 48, "--num-steps", 1, "--num-frame-pairs", 1, "--disable-guardrail")


def generate(folder, output, *arguments):
    return jax_interp(
        "generate", "--input", golden.CLIP, "--checkpoint-dir", folder, "--video-save-folder", output, *TINY, *arguments
    )


def refused(outcome, text):
    assert outcome.code == UsageError.exit_code, outcome.output
    assert re.search(text, outcome.output), outcome.output


@pytest.mark.slow
def test_a_clip_is_made_and_its_record_says_it(converted, quantized, tmp_path):
    """Quantised at load or stored so, the same frames; only the networks that have large products are in 8 bits."""
    records = {}
    for name, folder, more in (("load", converted, ("--quantization", "int8")), ("stored", quantized, ())):
        outcome = generate(folder, tmp_path / name, *more)
        assert outcome.code == 0, outcome.output
        [record] = (tmp_path / name).glob("*.json")
        records[name] = json.loads(record.read_text())
    for record in records.values():
        assert record["networks"]["diffusion_transformer"]["quantization"] == "int8"
        assert "quantization" not in record["networks"]["tokenizer"]
    [load], [stored] = ((tmp_path / name).glob("*.mp4") for name in records)
    assert load.read_bytes() == stored.read_bytes()
    assert records["load"]["fingerprint"] == records["stored"]["fingerprint"]


@pytest.mark.slow
def test_full_networks_cannot_be_made_of_quantised_ones(quantized, tmp_path):
    refused(
        generate(quantized, tmp_path, "--quantization", "none"),
        r"stored in int8, from which the weights cannot be restored; leave out --quantization none",
    )
    refused(
        jax_interp("export", "--converted-dir", quantized, "--output-dir", tmp_path / "out"),
        r"stored in int8, from which it cannot be exported; name a folder that was converted without --quantization",
    )
    refused(
        jax_interp(
            "train", "--data", golden.CLIP.parent, "--checkpoint-dir", quantized, "--output-dir", tmp_path / "run"
        ),
        r"stored in int8, from which it cannot be trained",
    )
    assert not list(tmp_path.iterdir())


def test_other_words_are_refused(converted, tmp_path):
    outcome = generate(converted, tmp_path, "--quantization", "fp8")
    assert outcome.code == UsageError.exit_code
    assert "'none', 'int8'" in outcome.output


def test_inspect_says_it(quantized):
    output = jax_interp("inspect", quantized).output
    assert "diffusion_transformer, converted, in int8" in output
    assert "tokenizer, converted state" in output
    assert "int8 (" in output


@pytest.mark.slow
def test_rotated_channels_are_named_and_kept_apart(rotated_folder, quantized, tmp_path):
    assert "diffusion_transformer, converted, in int8-rotated" in jax_interp("inspect", rotated_folder).output
    manifest = json.loads((rotated_folder / DIT / "manifest.json").read_text())
    assert (manifest["format_version"], manifest["settings"]["quantization"]) == (2, "int8-rotated")
    assert manifest["params"]["blocks/self_attention/qkv/int8_kernel"]["op"] == "transpose, int8-rotated"
    for folder, stored, wanted in ((quantized, "int8", "int8-rotated"), (rotated_folder, "int8-rotated", "int8")):
        refused(
            generate(folder, tmp_path, "--quantization", wanted),
            rf"stored in {stored}, from which the weights cannot be restored; leave out --quantization {wanted}",
        )
        arguments = ("--checkpoint-dir", golden.CHECKPOINTS, "--output-dir", folder, "--quantization", wanted)
        outcome = jax_interp("convert", *arguments)
        assert outcome.code != 0
        assert f"converted already, but with quantization {stored}" in outcome.output
    refused(
        jax_interp("export", "--converted-dir", rotated_folder, "--output-dir", tmp_path / "out"),
        r"stored in int8-rotated, from which it cannot be exported",
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_clip_is_made_with_rotated_channels(converted, rotated_folder, tmp_path):
    """Rotated at load or stored so, the same frames; the record says it."""
    made = []
    for name, folder, more in (("load", converted, ("--quantization", "int8-rotated")), ("stored", rotated_folder, ())):
        outcome = generate(folder, tmp_path / name, *more)
        assert outcome.code == 0, outcome.output
        [record], [clip] = ((tmp_path / name).glob(pattern) for pattern in ("*.json", "*.mp4"))
        assert json.loads(record.read_text())["networks"]["diffusion_transformer"]["quantization"] == "int8-rotated"
        made.append(clip.read_bytes())
    assert made[0] == made[1]


def test_a_conversion_of_another_quantisation_is_there_already(quantized, converted):
    for folder, more, text in (
        (quantized, (), "converted already, but with quantization int8"),
        (converted, ("--quantization", "int8"), "converted already, but with quantization None"),
    ):
        outcome = jax_interp("convert", "--checkpoint-dir", golden.CHECKPOINTS, "--output-dir", folder, *more)
        assert outcome.code != 0
        assert text in outcome.output
    assert json.loads((converted / DIT / "config.json").read_text())["format_version"] == 1
    assert (quantized / TOKENIZER / "config.json").read_bytes() == (converted / TOKENIZER / "config.json").read_bytes()


def test_weights_that_are_not_finite_are_not_quantised(tmp_path):
    arguments = ("--checkpoint-dir", golden.CHECKPOINTS, "--output-dir", tmp_path / "out")
    refused(
        jax_interp("convert", *arguments, "--quantization", "int8", "--allow-non-finite"),
        "--allow-non-finite and --quantization int8: .* leave out one of them",
    )
    assert not (tmp_path / "out").exists()


@pytest.fixture
def bare_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(available, "nvidia_gpus", lambda: ())
    monkeypatch.chdir(tmp_path)


def parameters(output, name):
    """The dtype and the bytes of the parameters of a network, and of its blocks, in GiB."""
    found = re.search(rf"(?<!\S){re.escape(name)} (\S+) ([\d.]+) (?:(\d+) × ([\d.]+)|-)", output)
    assert found, output
    return found[1], float(found[2])


def test_memory_counts_half(bare_machine):
    full, ours = (
        jax_interp("memory", "--model", "7B", "--prompt-upsampler", *more).output
        for more in ((), ("--quantization", "int8"))
    )
    for name, expected in (
        ("diffusion_transformer", 7.36),
        ("text_encoder", 4.63),
        ("prompt_upsampler/language", 11.41),
        ("guardrail_models/text_safety", 7.48),
    ):
        kind, size = parameters(ours, name)
        assert (kind, size) == ("int8", pytest.approx(expected, rel=0.05))
        assert size < 0.62 * parameters(full, name)[1]
    for name in ("tokenizer", "prompt_upsampler/pictures"):
        assert parameters(ours, name) == parameters(full, name)


def test_networks_are_trained_in_full(bare_machine):
    refused(jax_interp("memory", "--train", "--quantization", "int8"), "networks are trained in full")
