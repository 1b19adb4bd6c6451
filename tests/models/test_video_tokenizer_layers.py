import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.models.video_tokenizer.attention import SelfAttention, attend_along_time, attend_within_frames
from jax_interp.models.video_tokenizer.layers import FrameNorm, PointwiseConv, ResidualBlock, SpatialConv, TemporalConv
from jax_interp.models.video_tokenizer.levels import Downsample, Upsample
from jax_interp.nn.params import Network, flatten, unflatten
from tests.golden import relative_l2
from tests.models.video_tokenizer_weights import FAST_COMPILE
from tests.tolerances import BLOCK_F32, ELEMENTWISE_F32


def fast(function):
    return jax.jit(function, compiler_options=FAST_COMPILE)


class Layer:
    """A layer with random parameters, some of them given by path, ready to run."""

    def __init__(self, make, *sizes, dtype=jnp.float32, given=(), **options):
        self.network = Network(lambda rngs: make(*sizes, dtype=dtype, rngs=rngs, **options))
        rng = np.random.default_rng(0)
        leaves = {path: rng.normal(size=leaf.shape) for path, leaf in flatten(self.network.abstract)} | dict(given)
        leaves = {path: np.asarray(leaf, dtype).reshape(self.shapes[path]) for path, leaf in leaves.items()}
        self.leaves, self.params = leaves, unflatten(leaves)
        self.run = fast(lambda params, x: self.network.bind(params)(x))

    @property
    def shapes(self):
        return {path: leaf.shape for path, leaf in flatten(self.network.abstract)}

    def __call__(self, x):
        return np.asarray(self.run(self.params, x))


def features(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def frames(*values):
    """One pixel of one channel over time."""
    return np.asarray(values, np.float32).reshape(1, -1, 1, 1, 1)


def test_frame_norm_by_hand():
    norm = Layer(FrameNorm, 2, given={"scale": [1, 10], "bias": [0, 5]})
    # one frame of two pixels and two channels: 1, 3, 5, 7 has mean 4 and variance 5
    out = norm(np.asarray([1, 3, 5, 7], np.float32).reshape(1, 1, 1, 2, 2))
    unit = np.array([-3, -1, 1, 3]) / np.sqrt(5 + 1e-6)
    expected = [unit[0], 5 + 10 * unit[1], unit[2], 5 + 10 * unit[3]]
    np.testing.assert_allclose(out.reshape(4), expected, rtol=ELEMENTWISE_F32)


def test_frame_norm_keeps_frames_and_batch_entries_apart(rng):
    norm, x = Layer(FrameNorm, 3), features(rng, 2, 3, 4, 5, 3)
    changed = x.copy()
    changed[1, 2] = 7 * x[1, 2] ** 2
    keep = np.ones((2, 3), bool)
    keep[1, 2] = False
    np.testing.assert_array_equal(norm(changed)[keep], norm(x)[keep])


@pytest.mark.parametrize("stride", [1, 2])
def test_spatial_convolution_sums_its_window(stride, rng):
    conv, x = Layer(SpatialConv, 2, 3, stride=stride), features(rng, 1, 2, 4, 6, 2)
    front = 2 - stride
    padded = np.pad(x, ((0, 0), (0, 0), (front, 1), (front, 1), (0, 0)))
    expected = np.empty((1, 2, 4 // stride, 6 // stride, 3))
    for row, column in np.ndindex(expected.shape[2:4]):
        window = padded[:, :, stride * row : stride * row + 3, stride * column : stride * column + 3]
        expected[:, :, row, column] = np.einsum("bfyxi,yxio->bfo", window, conv.leaves["kernel"])
    assert relative_l2(conv(x), expected + conv.leaves["bias"]) <= ELEMENTWISE_F32


@pytest.mark.parametrize(
    ("stride", "given", "expected"), [(1, [1, 2, 3], [111, 211, 321]), (2, [1, 2, 3, 4], [211, 432])]
)
def test_temporal_convolution_repeats_the_first_frame_in_front(stride, given, expected):
    conv = Layer(TemporalConv, 1, 1, stride=stride, given={"kernel": [1, 10, 100], "bias": 0})
    np.testing.assert_array_equal(conv(frames(*given)).reshape(-1), expected)


@pytest.mark.parametrize(("make", "taps"), [(PointwiseConv, 1), (SpatialConv, 9), (TemporalConv, 3)])
def test_bfloat16_products_are_summed_in_float32(make, taps):
    kernel = np.zeros((taps, 2))
    kernel[-1] = 1 / 256, 1
    layer = Layer(make, 2, 1, dtype=jnp.bfloat16, given={"kernel": kernel, "bias": 0.5})
    pixels = np.zeros((1, 1, 2, 2, 2))
    pixels[0, 0, -1, -1] = 1, 256
    out = layer(jnp.asarray(pixels, jnp.bfloat16))
    # bfloat16 would make 256 or 257 of it
    assert out.dtype == np.float32
    assert float(out.max()) == 256.5 + 1 / 256


def test_only_linears_and_spatial_convolutions_round_their_input():
    x = np.full((1, 1, 1, 1, 1), 1 + 1 / 512, np.float32)  # 1 in bfloat16
    results = {}
    for make, taps in ((PointwiseConv, 1), (SpatialConv, 9), (TemporalConv, 3)):
        kernel = np.zeros(taps)
        kernel[taps // 2] = 1
        results[make] = float(Layer(make, 1, 1, dtype=jnp.bfloat16, given={"kernel": kernel, "bias": 0})(x).squeeze())
    assert results == {PointwiseConv: 1, SpatialConv: 1, TemporalConv: 1 + 1 / 512}


@pytest.mark.parametrize("outputs", [4, 6])
def test_residual_block_adds_to_its_input(outputs, rng):
    silent = {"conv2/temporal/kernel": np.zeros((3, outputs, outputs)), "conv2/temporal/bias": np.zeros(outputs)}
    block, x = Layer(ResidualBlock, 4, outputs, given=silent), features(rng, 1, 2, 3, 4, 4)
    if outputs == 4:
        np.testing.assert_array_equal(block(x), x)
    else:
        expected = x @ block.leaves["shortcut/kernel"] + block.leaves["shortcut/bias"]
        assert relative_l2(block(x), expected) <= ELEMENTWISE_F32


def test_spatial_attention_sees_one_frame(rng):
    q, k, v = (features(rng, 2, 3, 2, 3, 4) for _ in range(3))
    scores = np.einsum("bfyxc,bfuvc->bfyxuv", q, k) / 2
    weights = np.exp(scores) / np.exp(scores).sum((-2, -1), keepdims=True)
    assert relative_l2(fast(attend_within_frames)(q, k, v), np.einsum("bfyxuv,bfuvc->bfyxc", weights, v)) <= BLOCK_F32


def test_temporal_attention_by_hand():
    # the second frame weighs the two values with e^(2·0) and e^(2·ln 3 / 2) = 3; the first sees only itself
    out = fast(attend_along_time)(frames(1, 2), frames(0, np.log(3) / 2), frames(10, 20))
    np.testing.assert_allclose(out.reshape(2), [10, (10 + 3 * 20) / 4], rtol=ELEMENTWISE_F32)


def test_attention_adds_to_its_input(rng):
    silent = {"out/kernel": np.zeros((4, 4)), "out/bias": np.zeros(4)}
    x = features(rng, 1, 2, 3, 4, 4)
    np.testing.assert_array_equal(Layer(SelfAttention, 4, attend_within_frames, given=silent)(x), x)


SILENT = {"spatial/kernel": np.zeros(9), "temporal/kernel": np.zeros(3)} | dict.fromkeys(
    ("spatial/bias", "temporal/bias", "mix/bias"), 0
)
"""Convolutions of one channel that give nothing; with a mix of 1, what is left is pooling or repetition."""


def test_downsampling_averages_cells_and_pairs_of_frames():
    x = np.arange(3 * 2 * 4, dtype=np.float32).reshape(1, 3, 2, 4, 1)
    out = Layer(Downsample, 1, given={**SILENT, "mix/kernel": 1})(x)
    # cell means are 2.5 and 4.5 in the first frame and 8 more in each later one; the first frame counts twice
    np.testing.assert_array_equal(out.reshape(2, 2), [[2.5, 4.5], [14.5, 16.5]])


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (2, [0, 1, 1]), (3, [0, 1, 1, 2, 2])])
def test_upsampling_repeats_all_but_the_first_frame(count, expected):
    out = Layer(Upsample, 1, given={**SILENT, "mix/kernel": 1})(frames(*range(count)))
    np.testing.assert_array_equal(out, np.broadcast_to(frames(*expected), (1, len(expected), 2, 2, 1)))


def test_upsampling_repeats_neighbours():
    out = Layer(Upsample, 1, given={**SILENT, "mix/kernel": 1})(
        np.array([[1, 2], [3, 4]], np.float32).reshape(1, 1, 2, 2, 1)
    )
    np.testing.assert_array_equal(out[0, 0, :, :, 0], [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (ResidualBlock, (4, 4)),
        (ResidualBlock, (4, 6)),
        (SelfAttention, (4, attend_within_frames)),
        (SelfAttention, (4, attend_along_time)),
        (Downsample, (4,)),
        (Upsample, (4,)),
    ],
)
def test_blocks_hand_on_the_dtype_they_get(make, sizes):
    network = Network(lambda rngs: make(*sizes, dtype=jnp.bfloat16, rngs=rngs))
    x = jax.ShapeDtypeStruct((1, 3, 4, 4, 4), jnp.bfloat16)
    assert jax.eval_shape(lambda params, x: network.bind(params)(x), network.abstract, x).dtype == jnp.bfloat16
