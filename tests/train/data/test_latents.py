"""Data preparation against the clean latents of the recorded steps, and against what inference does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.models.video_tokenizer import VideoTokenizer
from jax_interp.nn.params import Network
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import load_params
from jax_interp.train.data.latents import clip_latents, interpolation_latents, prepare_pixels
from tests import golden
from tests.tolerances import LEVELS_EQUAL, TRAINING_F32
from tests.train.golden_steps import load


@pytest.fixture(scope="module")
def encode(converted):
    """`encode(function, pixels)` with the golden tokenizer in float32."""
    found = find_component(converted, "tokenizer")
    network = Network(lambda rngs: VideoTokenizer(found.config, dtype=jnp.float32, rngs=rngs))
    params = load_params(found, network.abstract, "float32")
    return lambda function, pixels: jax.jit(lambda params, x: function(network.bind(params), x))(params, pixels)


def video(name):
    """uint8 [B, F, Y, X, 3]"""
    return golden.channels_last(load(f"inputs_{name}")["video"])


def upstream_latents(tokenizer, pixels):
    return interpolation_latents(tokenizer, pixels[:, :10], "upstream")


@pytest.mark.slow
def test_upstreams_interpolator_latents(encode):
    expected = golden.channels_last(load("T1_interpolator_float32")["x0"])
    pixels = prepare_pixels(video("interpolator"), 64, 96, "upstream")
    assert golden.relative_l2(encode(upstream_latents, pixels), expected) < TRAINING_F32
    # Inference's scale and statistics are others, which is why its own are the default.
    ours = prepare_pixels(video("interpolator"), 64, 96, "inference")
    assert golden.relative_l2(encode(upstream_latents, ours), expected) > TRAINING_F32
    as_picture = encode(lambda *inputs: interpolation_latents(inputs[0], inputs[1][:, :10], "inference"), pixels)
    assert golden.relative_l2(as_picture[:, :2], expected[:, :2]) < TRAINING_F32
    assert golden.relative_l2(as_picture[:, 2:], expected[:, 2:]) > TRAINING_F32


@pytest.mark.slow
def test_upstreams_video2world_latents(encode):
    expected = golden.channels_last(load("T3_video2world_c2")["x0"])
    pixels = prepare_pixels(video("video2world"), 64, 96, "upstream")
    assert golden.relative_l2(encode(clip_latents, pixels), expected) < TRAINING_F32


@pytest.mark.slow
def test_the_ends_are_what_inference_makes_of_them(encode, interpolators):
    frames = video("interpolator")[0, :10]
    pixels = prepare_pixels(frames[None], 64, 96, "inference")
    ours = encode(lambda params, pixels: interpolation_latents(params, pixels, "inference"), pixels)[0]
    condition = interpolators["float32"].encode_pair(frames[0], frames[-1], 64, 96)
    rounded = jnp.asarray(ours, jnp.bfloat16).astype(jnp.float32)
    for end in (0, 2):
        assert golden.relative_l2(rounded[end], condition[end]) < 0.01  # inference whitens in bfloat16
        assert golden.relative_l2(rounded[1], condition[end]) > 0.01


def test_upstreams_resized_frames():
    recorded = load("T5_dataset")
    ours = np.asarray(prepare_pixels(recorded["clip"][2:20], 24, 40, "upstream"))
    levels = np.rint((ours + 1) * 127.5).astype(int)
    theirs = golden.channels_last(recorded["video_2"][None])[0].astype(int)
    assert np.abs(levels - theirs).max() <= 1
    assert (levels == theirs).mean() > LEVELS_EQUAL
    cubic = np.asarray(prepare_pixels(recorded["clip"][2:20], 24, 40, "inference"))
    assert (np.rint((cubic + 1) * 128) == theirs).mean() < 0.9
