import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_interp.models.tokenizer.attention import SpatialAttention, TemporalAttention
from jax_interp.models.tokenizer.layers import FrameNorm, Linear, ResidualBlock, SpatialConv, TemporalConv, swish
from jax_interp.models.tokenizer.levels import Downsample, Upsample
from tests.golden import relative_l2
from tests.tolerances import BLOCK_F32, ELEMENTWISE_F32

F32 = {"dtype": jnp.float32, "rngs": nnx.Rngs(0)}


def features(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def test_frame_norm_by_hand():
    norm = FrameNorm(2, **F32)
    norm.scale[...] = jnp.asarray([1.0, 10.0])
    norm.bias[...] = jnp.asarray([0.0, 5.0])
    # one frame of two pixels and two channels: 1, 3, 5, 7 has mean 4 and variance 5
    out = norm(jnp.asarray([1.0, 3.0, 5.0, 7.0]).reshape(1, 1, 1, 2, 2))
    unit = np.array([-3, -1, 1, 3]) / np.sqrt(5 + 1e-6)
    expected = [unit[0], 5 + 10 * unit[1], unit[2], 5 + 10 * unit[3]]
    np.testing.assert_allclose(out.reshape(4), expected, rtol=ELEMENTWISE_F32)


def test_frame_norm_keeps_frames_and_batch_entries_apart(rng):
    norm, x = FrameNorm(3, **F32), features(rng, 2, 3, 4, 5, 3)
    changed = norm(x.at[1, 2].multiply(7.0))
    keep = np.ones((2, 3), bool)
    keep[1, 2] = False
    np.testing.assert_array_equal(changed[keep], norm(x)[keep])


@pytest.mark.parametrize("stride", [1, 2])
def test_spatial_convolution_sums_its_window(stride, rng):
    conv, x = SpatialConv(2, 3, stride=stride, **F32), features(rng, 1, 2, 4, 6, 2)
    conv.bias[...] = jnp.asarray([1.0, 2.0, 3.0])
    front = 2 - stride
    padded = np.pad(np.asarray(x), ((0, 0), (0, 0), (front, 1), (front, 1), (0, 0)))
    kernel = np.asarray(conv.kernel[...])
    expected = np.empty((1, 2, 4 // stride, 6 // stride, 3))
    for row, column in np.ndindex(expected.shape[2:4]):
        window = padded[:, :, stride * row : stride * row + 3, stride * column : stride * column + 3]
        expected[:, :, row, column] = np.einsum("bfyxi,yxio->bfo", window, kernel) + [1, 2, 3]
    assert relative_l2(conv(x), expected) <= ELEMENTWISE_F32


@pytest.mark.parametrize(("stride", "expected"), [(1, [111, 211, 321]), (2, [111, 321])])
def test_temporal_convolution_repeats_the_first_frame_in_front(stride, expected):
    conv = TemporalConv(1, 1, stride=stride, **F32)
    conv.kernel[...] = jnp.asarray([1.0, 10.0, 100.0]).reshape(3, 1, 1)
    out = conv(jnp.asarray([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1, 1))
    np.testing.assert_array_equal(out.reshape(-1), expected)


@pytest.mark.parametrize("make", [Linear, SpatialConv, TemporalConv])
def test_bias_is_added_before_the_only_rounding(make):
    layer = make(2, 1, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    kernel = jnp.zeros_like(layer.kernel[...])
    layer.kernel[...] = kernel.reshape(-1, 2, 1).at[kernel.size // 4].set(1).reshape(kernel.shape)
    layer.bias[...] = jnp.asarray([1.0], jnp.bfloat16)
    # 256 + 1 + 1: bfloat16 has no 257, so rounding the product first would give 256 or 257 -> 256
    out = layer(jnp.asarray([256.0, 1.0], jnp.bfloat16).reshape(1, 1, 1, 1, 2))
    assert out.dtype == jnp.bfloat16
    assert float(out.squeeze()) == 258


def test_swish_by_hand():
    np.testing.assert_allclose(swish(jnp.asarray([0.0, 1.0, -1.0])), [0, 0.7310586, -0.2689414], rtol=ELEMENTWISE_F32)


@pytest.mark.parametrize("outputs", [4, 6])
def test_residual_block_adds_to_its_input(outputs, rng):
    block, x = ResidualBlock(4, outputs, **F32), features(rng, 1, 2, 3, 4, 4)
    block.conv2.temporal.kernel[...] = jnp.zeros((3, outputs, outputs))
    np.testing.assert_array_equal(block(x), x if outputs == 4 else block.shortcut(x))


def test_spatial_attention_sees_one_frame():
    rng = np.random.default_rng(1)
    layer = SpatialAttention(4, **F32)
    q, k, v = (features(rng, 2, 3, 2, 3, 4) for _ in range(3))
    scores = np.einsum("bfyxc,bfuvc->bfyxuv", q, k) / 2
    weights = np.exp(scores) / np.exp(scores).sum((-2, -1), keepdims=True)
    assert relative_l2(layer.attend(q, k, v), np.einsum("bfyxuv,bfuvc->bfyxc", weights, v)) <= BLOCK_F32


def test_temporal_attention_by_hand():
    layer = TemporalAttention(1, **F32)
    as_frames = lambda *values: jnp.asarray(values, jnp.float32).reshape(1, 2, 1, 1, 1)  # noqa: E731
    # the second frame weighs the two values with e^(2·0) and e^(2·ln 3 / 2) = 3; the first sees only itself
    out = layer.attend(as_frames(1, 2), as_frames(0, np.log(3) / 2), as_frames(10, 20))
    np.testing.assert_allclose(out.reshape(2), [10, (10 + 3 * 20) / 4], rtol=ELEMENTWISE_F32)


def test_attention_adds_to_its_input(rng):
    layer, x = SpatialAttention(4, **F32), features(rng, 1, 2, 3, 4, 4)
    layer.out.kernel[...] = jnp.zeros((4, 4))
    np.testing.assert_array_equal(layer(x), x)


def averages_only(layer, width):
    """Convolutions that give nothing and a mix that passes everything: what is left is pooling or repetition."""
    for conv in (layer.spatial, layer.temporal):
        conv.kernel[...] = jnp.zeros_like(conv.kernel[...])
    layer.mix.kernel[...] = jnp.eye(width)
    return layer


def test_downsampling_averages_cells_and_pairs_of_frames():
    x = jnp.arange(3 * 2 * 4, dtype=jnp.float32).reshape(1, 3, 2, 4, 1)
    out = averages_only(Downsample(1, **F32), 1)(x)
    # cell means are 2.5 and 4.5 in the first frame and 8 more in each later one; the first frame counts twice
    np.testing.assert_array_equal(out.reshape(2, 2), [[2.5, 4.5], [14.5, 16.5]])


@pytest.mark.parametrize(("frames", "expected"), [(1, [0]), (2, [0, 1, 1]), (3, [0, 1, 1, 2, 2])])
def test_upsampling_repeats_all_but_the_first_frame(frames, expected):
    x = jnp.broadcast_to(jnp.arange(frames, dtype=jnp.float32).reshape(1, -1, 1, 1, 1), (1, frames, 1, 2, 1))
    out = averages_only(Upsample(1, **F32), 1)(x)
    assert out.shape == (1, len(expected), 2, 4, 1)
    np.testing.assert_array_equal(out[0, :, :, :, 0], np.broadcast_to(np.reshape(expected, (-1, 1, 1)), out.shape[1:4]))


def test_upsampling_repeats_neighbours():
    x = jnp.asarray([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2, 1)
    out = averages_only(Upsample(1, **F32), 1)(x)
    np.testing.assert_array_equal(out[0, 0, :, :, 0], [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])


def test_every_layer_stays_in_bfloat16(rng):
    x = features(rng, 1, 3, 4, 4, 4).astype(jnp.bfloat16)
    for make in (FrameNorm, Downsample, Upsample, SpatialAttention, TemporalAttention):
        layer = make(4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        assert jax.eval_shape(layer, x).dtype == jnp.bfloat16, make
