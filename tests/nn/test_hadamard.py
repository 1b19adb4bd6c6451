"""The rotation of channels: it is one, changes no product, and spreads what is large."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_interp.nn.hadamard import group_width, hadamard, rotate_channels, rotate_rows
from jax_interp.nn.quantization import QuantizedLinear, quantize_kernel, quantize_tokens, rotation_group
from jax_interp.nn.quantized_ops import TOKEN_OPS
from tests.golden import relative_l2
from tests.tolerances import ELEMENTWISE_F32

SIZES = [1, 2, 4, 8, 16, 32, 64, 128]


@pytest.mark.parametrize("size", SIZES)
def test_rows_are_orthogonal(size):
    matrix = hadamard(size)
    assert (np.abs(matrix) == 1).all()
    np.testing.assert_array_equal(matrix @ matrix.T, size * np.eye(size))
    assert not matrix.flags.writeable


@pytest.mark.parametrize("size", SIZES)
def test_the_mean_of_a_group_becomes_no_single_channel(size):
    assert np.abs(rotate_rows(np.ones((1, size), np.float32), size)).max() <= 1.001 * 2**0.5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("group", [4, 16, 64])
def test_integers_are_rotated_exactly(rng, group, dtype):
    """Of a power of four the root is a power of two; sums of these integers are exact in any order."""
    integers = rng.integers(-200, 201, (2, 3, 192))
    right = integers.reshape(2, 3, -1, group) @ hadamard(group).astype(np.int64) / group**0.5
    ours = rotate_channels(jnp.asarray(integers, dtype), group)
    assert ours.dtype == jnp.float32
    np.testing.assert_array_equal(ours, right.reshape(integers.shape))
    rows = rotate_rows(integers.reshape(6, 192).astype(np.float32), group)
    np.testing.assert_array_equal(rows, right.reshape(6, 192))


@pytest.mark.parametrize("group", [1, 32, 128])
def test_a_product_stays_what_it_was(rng, group):
    x, weight = rng.standard_normal((5, 256)), rng.standard_normal((256, 7))
    matrix = np.kron(np.eye(256 // group), hadamard(group).astype(np.float64) * group**-0.5)
    np.testing.assert_allclose((x @ matrix) @ (matrix.T @ weight), x @ weight, rtol=1e-12, atol=1e-12)
    tokens, rows = jnp.asarray(x, jnp.float32), weight.T.astype(np.float32)
    assert relative_l2(rotate_channels(tokens, group), x @ matrix) < ELEMENTWISE_F32
    assert relative_l2(rotate_rows(rows, group), (matrix.T @ weight).T) < ELEMENTWISE_F32


def test_groups_divide_the_channels_of_every_device():
    assert [group_width(channels) for channels in (4096, 5120, 96, 7)] == [128, 128, 32, 1]
    assert group_width(32 * 128, 32) == group_width(40 * 128, 40) == group_width(65536, 128) == 128
    assert group_width(4 * 24, 4) == 8  # heads of 24 channels
    for heads, channels in ((4, 512), (40, 20480), (6, 1536)):
        group = group_width(channels, heads)
        assert all(channels // share % group == 0 for share in range(1, heads + 1) if heads % share == 0)
    assert rotation_group("int8", 4096) == rotation_group("none", 4096) == 1
    assert rotation_group("int8-rotated", 4096, 32) == 128


def test_devices_that_have_some_channels_give_the_integers_of_one(rng):
    x = jnp.asarray(rng.standard_normal((6, 64)), jnp.float32)
    whole = quantize_tokens(x, group=16)
    shared = jax.vmap(
        lambda part: quantize_tokens(part, lambda largest: jax.lax.pmax(largest, "tensor"), group=16),
        in_axes=1,
        out_axes=1,
        axis_name="tensor",
    )(x.reshape(6, 4, 16))
    np.testing.assert_array_equal(shared.values.reshape(6, 64), whole.values)
    np.testing.assert_array_equal(shared.scale, np.repeat(whole.scale[:, None], 4, 1))


def test_outliers_cost_less(rng):
    """A product with three channels that are 64 times as large, and read with 1/64 of the weight."""
    x, weight = rng.standard_normal((64, 512)), rng.standard_normal((512, 300))
    x[:, [17, 67, 117]] *= 64
    weight[[17, 67, 117]] /= 64
    found = {}
    for group in (1, 128):
        tokens = quantize_tokens(jnp.asarray(x, jnp.float32), group=group)
        integers, scale = quantize_kernel(weight.astype(np.float32), group=group)
        sums = np.asarray(tokens.values, np.int64) @ integers.T.astype(np.int64)
        found[group] = relative_l2(sums * np.asarray(tokens.scale, np.float64)[:, None] * scale, x @ weight)
    assert found[128] < 0.06 < 0.18 < found[1]


def test_weights_that_are_not_finite_are_refused():
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            quantize_kernel(np.full((32, 2), value, np.float32), group=32)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_token_that_is_not_finite_has_such_a_scale(value):
    scale = quantize_tokens(jnp.ones((2, 32)).at[0, 3].set(value), group=32).scale
    assert np.isfinite(scale).tolist() == [False, True]


def test_operations_quantise_what_is_rotated(rng):
    plain, quantized = TOKEN_OPS["none"], TOKEN_OPS["int8-rotated"]
    x, shift, scale = (jnp.asarray(rng.standard_normal((2, size, 32)), jnp.float32) for size in (5, 1, 1))

    def double(x, *, gelu=False):
        return jax.nn.gelu(2 * x, approximate=False) if gelu else 2 * x

    def parts():
        return shift, scale, scale

    for ours, right in (
        (quantized.tokens(x, None, 16), plain.tokens(x)),
        (quantized.hidden(double, x, None, 16), plain.hidden(double, x)),
        (quantized.modulate(x, shift, scale, 16), plain.modulate(x, shift, scale)),
        (quantized.add_modulate(x, scale, x, parts, 16)[1], plain.add_modulate(x, scale, x, parts)[1]),
    ):
        steps = np.asarray(ours.scale)[..., None]
        assert (np.abs(np.asarray(ours.values) * steps - np.asarray(rotate_channels(right, 16))) <= 0.501 * steps).all()


def test_a_layer_rotates_what_is_not_quantised_yet(rng):
    layer = QuantizedLinear(64, 3, dtype=jnp.float32, rngs=nnx.Rngs(0), group=64)
    weight = rng.standard_normal((64, 3)).astype(np.float32)
    integers, scale = quantize_kernel(weight, group=64)
    layer.int8_kernel[...], layer.scale[...] = jnp.asarray(integers), jnp.asarray(scale)
    x = jnp.asarray(rng.standard_normal((4, 64)), jnp.float32)
    np.testing.assert_array_equal(layer(x), layer(quantize_tokens(x, group=64)))
    assert relative_l2(layer(x), x @ weight) < 0.02
