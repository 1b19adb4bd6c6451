import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.config import CV8X8X8_720P
from jax_interp.errors import UsageError
from jax_interp.nn.params import flatten, unflatten
from tests import golden
from tests.golden import channels_last, relative_l2
from tests.models.video_tokenizer_weights import FAST_COMPILE, TINY, golden_params, network
from tests.tolerances import BF16_RATIO, ELEMENTWISE_F32, NETWORK_F32

L2 = golden.load("L2_tokenizer")
NAMES = {"raw_encode": "x", "raw_decode": "z", "encode": "x", "decode": "z"}
"""Golden outputs and the input of each; `raw_*` are those of the network without statistics."""


@cache
def compiled(precision, method):
    net = network(precision)
    return jax.jit(lambda params, x: getattr(net.bind(params), method)(x), compiler_options=FAST_COMPILE)


def without_statistics(params):
    """Mean 0 and deviation 1, so that one compiled function serves raw and normalized latents."""
    neutral = {name: jnp.full_like(leaf, name.endswith("std")) for name, leaf in params["stats"].items()}
    return {**params, "stats": neutral}


def run(precision, name, x, params=None):
    params = golden_params(precision) if params is None else params
    if name.startswith("raw_"):
        params = without_statistics(params)
    function = compiled(precision, f"{name.removeprefix('raw_')}_normalized")
    return np.asarray(function(params, jnp.asarray(x)).astype(jnp.float32))


def upstream(name, kind):
    return channels_last(L2[f"{name}_{kind}"])


@pytest.mark.parametrize("kind", ["video", "image"])
@pytest.mark.parametrize("name", NAMES)
def test_float32_is_upstreams(name, kind):
    ours = run("float32", name, upstream(NAMES[name], kind))
    assert relative_l2(ours, upstream(f"float32.{name}", kind)) <= NETWORK_F32


@pytest.mark.parametrize("kind", ["video", "image"])
@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_as_accurate_as_upstreams(name, kind):
    ours = run("bfloat16", name, jnp.asarray(upstream(NAMES[name], kind)).astype(jnp.bfloat16))
    oracle = upstream(f"float32.{name}", kind)
    assert relative_l2(ours, oracle) <= BF16_RATIO * relative_l2(upstream(f"bfloat16.{name}", kind), oracle)


@pytest.mark.parametrize("kind", ["video", "image"])
def test_float32_latents_into_the_bfloat16_tokenizer(kind):
    ours = run("bfloat16", "decode", upstream("z", kind))
    oracle = upstream("float32.decode", kind)
    assert relative_l2(ours, oracle) <= BF16_RATIO * relative_l2(upstream("mixed.decode", kind), oracle)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("encode", "encoder/patcher/wavelets"),
        ("encode", "encoder/conv_in/temporal/kernel"),
        ("encode", "encoder/down_0/resample/spatial/kernel"),
        ("encode", "encoder/mid/spatial_attention/value/bias"),
        ("encode", "stats/video_std"),
        ("decode", "decoder/mid/temporal_attention/out/kernel"),
        ("decode", "decoder/up_1/resample/temporal/kernel"),
        ("decode", "decoder/unpatcher/wavelets"),
        ("decode", "stats/video_mean"),
    ],
)
def test_one_wrong_weight_is_noticed(name, path):
    leaves = dict(flatten(golden_params("float32")))
    leaves[path] = leaves[path].reshape(-1).at[0].add(0.01).reshape(leaves[path].shape)
    ours = run("float32", name, upstream(NAMES[name], "video"), unflatten(leaves))
    assert relative_l2(ours, upstream(f"float32.{name}", "video")) > NETWORK_F32


@pytest.mark.parametrize("frames", [1, 9, 17])
def test_shapes_there_and_back(frames):
    net, pixels = network("bfloat16"), jax.ShapeDtypeStruct((2, frames, 16, 40, 3), jnp.bfloat16)
    latents = jax.eval_shape(lambda params, x: net.bind(params).encode(x), net.abstract, pixels)
    assert (latents.shape, latents.dtype) == ((2, (frames - 1) // 8 + 1, 2, 5, 16), jnp.float32)
    decoded = jax.eval_shape(lambda params, z: net.bind(params).decode(z), net.abstract, latents)
    assert (decoded.shape, decoded.dtype) == (pixels.shape, jnp.float32)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_normalized_latents_and_pixels_keep_the_dtype(precision, dtype):
    net, pixels = network(precision), jax.ShapeDtypeStruct((1, 9, 8, 8, 3), dtype)
    latents = jax.eval_shape(lambda params, x: net.bind(params).encode_normalized(x), net.abstract, pixels)
    decoded = jax.eval_shape(lambda params, z: net.bind(params).decode_normalized(z), net.abstract, latents)
    assert latents.dtype == decoded.dtype == dtype


def test_published_size():
    assert sum(math.prod(leaf.shape) for _, leaf in flatten(network("bfloat16", CV8X8X8_720P).abstract)) == 105_654_244


def test_no_latent_frame_sees_a_later_pixel_frame(rng):
    x = rng.normal(size=(1, 17, 16, 24, 3)).astype(np.float32)
    changed = np.concatenate([x[:, :9], rng.normal(size=(1, 8, 16, 24, 3)).astype(np.float32)], axis=1)
    before, after = run("float32", "raw_encode", x), run("float32", "raw_encode", changed)
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert not np.allclose(before[:, 2], after[:, 2])


def test_no_pixel_frame_sees_a_later_latent_frame(rng):
    z = rng.normal(size=(1, 3, 2, 3, 16)).astype(np.float32)
    changed = np.concatenate([z[:, :2], rng.normal(size=(1, 1, 2, 3, 16)).astype(np.float32)], axis=1)
    before, after = run("float32", "raw_decode", z), run("float32", "raw_decode", changed)
    np.testing.assert_array_equal(before[:, :9], after[:, :9])
    assert not np.allclose(before[:, 9], after[:, 9])


def test_a_picture_is_the_first_frame_of_a_clip():
    clip = upstream("x", "video")
    first, alone = run("float32", "raw_encode", clip)[:, :1], run("float32", "raw_encode", clip[:, :1])
    assert relative_l2(first, alone) <= NETWORK_F32


def test_statistics_of_clips_go_by_frame_and_of_pictures_by_channel():
    stats = network("float32").bind(golden_params("float32")).stats
    leaves = dict(flatten(golden_params("float32")))
    for found, name in zip(stats.of(2), ("mean", "std"), strict=True):
        np.testing.assert_array_equal(found[:, 0, 0], leaves[f"stats/video_{name}"][:, :2].T)
    for found, name in zip(stats.of(1), ("mean", "std"), strict=True):
        np.testing.assert_array_equal(found[0, 0, 0], leaves[f"stats/image_{name}"])


def test_normalized_latents_by_hand():
    x, leaves = upstream("x", "image"), dict(flatten(golden_params("float32")))
    raw, normalized = run("float32", "raw_encode", x), run("float32", "encode", x)
    expected = (raw - np.asarray(leaves["stats/image_mean"])) / np.asarray(leaves["stats/image_std"])
    assert relative_l2(normalized, expected) <= ELEMENTWISE_F32


def test_a_clip_longer_than_the_statistics_is_refused():
    z = jnp.zeros((1, TINY.latent_chunk + 1, 1, 1, 16))
    with pytest.raises(UsageError, match="17 latent frames has no statistics; this tokenizer has them for 16"):
        network("float32").bind(golden_params("float32")).decode_normalized(z)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 8, 16, 16, 3), r"8 frames, allowed are 1, 9, 17, 25, \.\.\. \(1 \+ 8n\)"),
        ((1, 0, 16, 16, 3), "0 frames"),
        ((1, 10, 12, 20, 3), "10 frames.*height 12, allowed are multiples of 8; width 20, allowed"),
        ((1, 9, 0, 16, 3), "height 0"),
        ((1, 9, 16, 16, 4), r"shape \(1, 9, 16, 16, 4\), expected \[batch, frames, height, width, 3\]"),
        ((9, 16, 16, 3), r"expected \[batch"),
    ],
)
def test_pixels_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        network("float32").bind(golden_params("float32")).encode(jnp.zeros(shape))
