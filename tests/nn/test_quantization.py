"""Quantised tokens, weights and layers against their definition in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_interp.nn.quantization import (
    QuantizedLinear,
    QuantizedTokens,
    WeightOnlyLinear,
    quantize_kernel,
    quantize_tokens,
)
from jax_interp.nn.quantized_ops import TOKEN_OPS


def filled(layer, rng, scale=0.01):
    """`layer` with random integers and scales."""
    shape = layer.int8_kernel.shape
    layer.int8_kernel[...] = jnp.asarray(rng.integers(-127, 128, shape), jnp.int8)
    layer.scale[...] = jnp.asarray(scale * rng.uniform(0.5, 1, shape[:-1]), jnp.float32)
    return layer


def tokens_of(x):
    return (np.asarray(part) for part in (quantize_tokens(x).values, quantize_tokens(x).scale))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tokens_are_within_half_a_step(rng, dtype):
    x = jnp.asarray(rng.standard_normal((2, 5, 33)) * np.geomspace(1e-6, 1e6, 5)[:, None], dtype)
    values, scale = tokens_of(x)
    wide = np.asarray(x.astype(jnp.float32))
    assert values.dtype == np.int8
    assert (np.abs(values).max(-1) == 127).all()
    np.testing.assert_allclose(scale, np.abs(wide).max(-1) / 127, rtol=1e-6)
    assert (np.abs(values * scale[..., None] - wide) <= 0.5001 * scale[..., None]).all()


def test_halves_are_rounded_to_even():
    values, scale = tokens_of(jnp.asarray([[127, 0.5, 1.5, 2.5, -0.5, -1.5]], jnp.float32))
    assert scale.tolist() == [1]
    assert values.tolist() == [[127, 0, 2, 2, 0, -2]]
    integers, scales = quantize_kernel(np.asarray([[127, 0.5, 1.5, 2.5, -0.5, -1.5]], np.float32).T)
    assert (integers.tolist(), scales.tolist()) == (values.tolist(), [1])


def test_rows_of_zeros_are_zeros_and_have_a_scale():
    for x in (jnp.zeros((1, 4)), jnp.full((1, 4), 1e-42)):
        values, scale = tokens_of(x)
        assert not values.any()
        assert scale > 1e-37  # GPUs take smaller numbers for zero
    integers, scale = quantize_kernel(np.zeros((4, 2), np.float32))
    assert not integers.any()
    assert (scale > 1e-37).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_token_that_is_not_finite_shows_in_every_product(rng, value):
    layer = filled(QuantizedLinear(8, 3, dtype=jnp.float32, rngs=nnx.Rngs(0)), rng)
    product = np.asarray(layer(jnp.ones((2, 8)).at[0, 3].set(value)))
    assert not np.isfinite(product[0]).any()
    assert np.isfinite(product[1]).all()
    with pytest.raises(ValueError, match="not finite"):
        quantize_kernel(np.full((3, 2), value, np.float32))


def test_devices_that_have_some_channels_agree_on_the_scale(rng):
    x = jnp.asarray(rng.standard_normal((6, 32)), jnp.float32)
    whole = quantize_tokens(x)
    shared = jax.vmap(
        lambda part: quantize_tokens(part, lambda largest: jax.lax.pmax(largest, "tensor")),
        in_axes=1,
        out_axes=1,
        axis_name="tensor",
    )(x.reshape(6, 4, 8))
    np.testing.assert_array_equal(shared.values.reshape(6, 32), whole.values)
    np.testing.assert_array_equal(shared.scale, np.repeat(whole.scale[:, None], 4, 1))


def test_a_weight_has_a_scale_for_every_output_channel(rng):
    """More channels than a thread takes at once, and not a multiple of them."""
    kernel = (rng.standard_normal((40, 601)) * np.geomspace(1e-3, 1e3, 601)).astype(np.float32)
    original = kernel.copy()
    integers, scale = quantize_kernel(kernel)
    right = np.abs(kernel).max(0) / np.float32(127)
    np.testing.assert_array_equal(scale, right)
    np.testing.assert_array_equal(integers, np.rint(kernel / right).T)
    np.testing.assert_array_equal(kernel, original)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_product_has_exact_sums(rng, dtype):
    layer = filled(QuantizedLinear(700, 5, dtype=dtype, rngs=nnx.Rngs(0)), rng)
    x = jnp.asarray(rng.standard_normal((2, 3, 700)), dtype)
    tokens = quantize_tokens(x)
    sums = np.asarray(tokens.values, np.int64) @ np.asarray(layer.int8_kernel[...], np.int64).T
    right = sums.astype(np.float32) * np.asarray(tokens.scale)[..., None] * np.asarray(layer.scale[...])
    for product in (layer(x), layer(tokens)):
        assert product.dtype == dtype
        np.testing.assert_array_equal(product, jnp.asarray(right).astype(dtype))


def test_joined_layers_give_what_each_gives(rng):
    joined = filled(QuantizedLinear(16, 6, 3, dtype=jnp.float32, rngs=nnx.Rngs(0)), rng)
    x = jnp.asarray(rng.standard_normal((2, 4, 16)), jnp.float32)
    together = joined(x)
    assert [part.shape for part in together] == [(2, 4, 6)] * 3
    single = QuantizedLinear(16, 6, dtype=jnp.float32, rngs=nnx.Rngs(0))
    for part in range(3):
        single.int8_kernel[...], single.scale[...] = joined.int8_kernel[part], joined.scale[part]
        np.testing.assert_array_equal(together[part], single(x))


@pytest.mark.parametrize("shape", [(1, 1, 48), (1, 7, 48), (2, 1, 48)])
def test_weights_alone_are_quantised(rng, shape):
    layer = filled(WeightOnlyLinear(48, 9, rngs=nnx.Rngs(0)), rng)
    x = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    weight = np.asarray(layer.int8_kernel[...], np.float64) * np.asarray(layer.scale[...], np.float64)[:, None]
    np.testing.assert_allclose(layer(x), np.asarray(x, np.float64) @ weight.T, rtol=2e-5, atol=1e-6)
    assert layer(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_fresh_layers_keep_activations_near_unit_scale(rng):
    x = jnp.asarray(rng.standard_normal((64, 256)), jnp.float32)
    for layer in (
        QuantizedLinear(256, 256, dtype=jnp.float32, rngs=nnx.Rngs(0)),
        WeightOnlyLinear(256, 256, rngs=nnx.Rngs(0)),
    ):
        assert 0.8 < float(jnp.std(layer(x))) < 1.2


def test_tokens_are_indexed_like_arrays(rng):
    x = jnp.asarray(rng.standard_normal((2, 6, 8)), jnp.float32)
    tokens = quantize_tokens(x)
    some, right = tokens[:, 2:4], quantize_tokens(x[:, 2:4])
    assert isinstance(some, QuantizedTokens)
    assert some.shape == (2, 2, 8)
    np.testing.assert_array_equal(some.values, right.values)
    np.testing.assert_array_equal(some.scale, right.scale)


def test_operations_quantise_what_the_plain_ones_give(rng):
    plain, quantized = TOKEN_OPS["none"], TOKEN_OPS["int8"]
    x, shift, scale = (jnp.asarray(rng.standard_normal((2, size, 16)), jnp.float32) for size in (5, 1, 1))
    gate, added = (jnp.asarray(rng.standard_normal((2, size, 16)), jnp.float32) for size in (1, 5))
    total, summed, next_gate = quantized.add_modulate(x, gate, added, lambda: (shift, scale, gate))
    right_total, right_summed, _ = plain.add_modulate(x, gate, added, lambda: (shift, scale, gate))
    np.testing.assert_array_equal(total, right_total)
    assert next_gate is gate

    def double(x, *, gelu=False):
        return jax.nn.gelu(2 * x, approximate=False) if gelu else 2 * x

    for ours, right in (
        (quantized.tokens(x), plain.tokens(x)),
        (quantized.hidden(double, x), plain.hidden(double, x)),
        (quantized.modulate(x, shift, scale), plain.modulate(x, shift, scale)),
        (summed, right_summed),
    ):
        values, steps = np.asarray(ours.values), np.asarray(ours.scale)[..., None]
        assert (np.abs(values * steps - np.asarray(right)) <= 0.501 * steps).all()
