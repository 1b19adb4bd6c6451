"""Video2World in 8 bits: where it lives, how accurate it is, and what the record says."""

import numpy as np
import pytest

from jax_interp import Video2World
from jax_interp.pipeline.jobs.record import fingerprint, networks
from jax_interp.pipeline.settings import Video2WorldSettings
from jax_interp.runtime.placement import Kind
from tests import golden
from tests.changed_weights import change_weight
from tests.commands import jax_interp
from tests.golden import VIDEO2WORLD
from tests.pipeline.test_video2world_placements import sampled
from tests.tolerances import INT8_RATIO


@pytest.fixture(scope="module")
def quantized_world(converted_world):
    return Video2World.from_pretrained(converted_world, dtype="float32", quantization="int8", embedding_cache=False)


@pytest.fixture(scope="module")
def resident(quantized_world):
    return sampled(quantized_world)


def kinds() -> list[Kind]:
    return ["streamed", "offloaded", "resident"]


@pytest.mark.parametrize("kind", kinds())
def test_placements_give_the_same_bits(quantized_world, resident, kind):
    quantized_world.place({"diffusion_transformer": kind, "tokenizer": "offloaded"})
    assert np.array_equal(sampled(quantized_world), resident)


@pytest.mark.slow
def test_it_is_nearly_as_accurate_as_in_bfloat16(converted_world, worlds):
    """Of the latents of one step, without the given frames, which come back nearly unchanged."""
    ours = Video2World.from_pretrained(converted_world, dtype="bfloat16", quantization="int8", embedding_cache=False)
    right, half = (sampled(worlds[dtype])[2:] for dtype in ("float32", "bfloat16"))
    error, halves = (golden.relative_l2(each, right) for each in (sampled(ours)[2:], half))
    assert halves < error < INT8_RATIO * halves
    change_weight(ours.denoiser, "blocks/self_attention/qkv/scale", lambda array: array * np.float32(1.5))
    assert golden.relative_l2(sampled(ours)[2:], right) > INT8_RATIO * halves


def test_the_record_and_the_fingerprint_know_it(quantized_world, worlds):
    settings = Video2WorldSettings(prompt="rain", height=48, width=64, num_video_frames=9)
    identities = {fingerprint(each, settings, (golden.CLIP,)) for each in (quantized_world, worlds["float32"])}
    assert len(identities) == 2
    facts = networks(quantized_world)
    assert facts["diffusion_transformer"]["quantization"] == facts["text_encoder"]["quantization"] == "int8"
    assert "quantization" not in facts["tokenizer"]


@pytest.mark.slow
def test_a_stored_network_gives_the_same_from_the_shell(quantized_world, resident, tmp_path):
    stored = tmp_path / "stored"
    checkpoints = VIDEO2WORLD / "checkpoints"
    converted = jax_interp("convert", "--checkpoint-dir", checkpoints, "--output-dir", stored, "--quantization", "int8")
    assert converted.code == 0, converted.output
    world = Video2World.from_pretrained(stored, dtype="float32", embedding_cache=False)
    assert np.array_equal(sampled(world), resident)
    outcome = jax_interp(
        "video2world", "--disable-guardrail", "--checkpoint-dir", stored, "--video-save-folder", tmp_path / "out",
        "--input", VIDEO2WORLD / "inputs" / "image.png", "--prompt", "rain", "--height", 48, "--width", 64,
        "--num-steps", 1, "--num-video-frames", 9, "--dtype", "float32", "--save-frames", tmp_path / "frames",
    )  # fmt: skip
    assert outcome.code == 0, outcome.output
    assert '"quantization": "int8"' in (tmp_path / "out" / "output.json").read_text()
