"""Scale that is moved from inputs into weights: factors by hand, and what they save where channels are large."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_interp.nn.quantization import QuantizedLinear, quantize_kernel, quantize_tokens
from jax_interp.nn.quantized_ops import TOKEN_OPS
from jax_interp.pipeline.calibration.smoothing import (
    LARGEST_RATIO,
    MIN_EXPONENT,
    STRENGTHS,
    choose_factors,
    largest_over_median,
    smoothing_factors,
)
from tests.golden import relative_l2


def largest_of(rows):
    return np.abs(rows).max(0)


@pytest.mark.parametrize(
    ("strength", "expected"),
    [(1, [2**-4, 1, 1, 1]), (0.5, [2**-3, 1, 1, 1]), (0.25, [2**-2, 1, 1, 1])],  # -2.5 is rounded to the even one
)
def test_factors_by_hand(strength, expected):
    """A channel of 16 with a weight of 1/4: at 1 only the channel counts, at 1/2 the root of the ratio, 64."""
    found = smoothing_factors(np.array([16, 1, 1, 1], np.float32), np.array([0.25, 1, 1, 1], np.float32), strength)
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_channels_of_zeros_have_no_factor():
    found = smoothing_factors(np.array([0, 64, 1, 1, 0], np.float32), np.array([1, 1, 1, 1, 0], np.float32), 1)
    np.testing.assert_array_equal(found, np.array([1, 1 / 64, 1, 1, 1], np.float32))
    np.testing.assert_array_equal(smoothing_factors(np.zeros(3, np.float32), np.ones(3, np.float32), 0.5), np.ones(3))


def test_factors_are_bounded_and_make_nothing_larger():
    found = smoothing_factors(np.array([1e30, 1, 1, 1e-3], np.float32), np.ones(4, np.float32), 1)
    np.testing.assert_array_equal(found, np.array([2.0**MIN_EXPONENT, 1, 1, 1], np.float32))


@pytest.fixture
def product(rng):
    """Inputs and a weight without large channels."""
    return rng.standard_normal((64, 256)).astype(np.float32), rng.standard_normal((256, 96)).astype(np.float32)


def test_large_channels_lose_their_effect(product):
    rows, weight = product
    plain = choose_factors(rows, weight, largest_of(rows))
    scale = np.ones(256, np.float32)
    scale[[3, 99]] = 64
    found = choose_factors(rows * scale, weight / scale[:, None], largest_of(rows * scale))
    assert found.strength in STRENGTHS
    assert found.factors[3] == found.factors[99] == 1 / 64
    assert found.plain > 10 * plain.plain
    assert found.error == pytest.approx(plain.plain, rel=0.1)
    assert found.bfloat16 < 0.3 * found.error
    mantissas, _ = np.frexp(found.factors)
    assert set(mantissas) == {0.5}


def test_without_large_channels_there_are_no_factors(product):
    rows, weight = product
    found = choose_factors(rows, weight, largest_of(rows))
    assert (found.strength, found.error) == (0, found.plain)
    np.testing.assert_array_equal(found.factors, np.ones(256))


def test_inputs_of_zeros_have_no_error(product):
    """Without a text the outputs of cross-attention are zeros."""
    rows, weight = np.zeros_like(product[0]), product[1]
    found = choose_factors(rows, weight, largest_of(rows))
    assert (found.strength, found.plain, found.error, found.bfloat16) == (0, 0, 0, 0)


def test_the_largest_channel_over_the_median():
    assert largest_over_median([0, 2, 4, 40]) == 10
    assert largest_over_median([0, 0]) == 0
    assert largest_over_median([1e-30, 1e-30, 1e8]) == LARGEST_RATIO


def test_what_is_not_finite_is_no_error_of_zero(product):
    for value in (np.nan, np.inf):
        rows = product[0].copy()
        rows[2, 5] = value
        found = choose_factors(rows, product[1], largest_of(np.nan_to_num(rows)))
        assert not np.isfinite([found.plain, found.bfloat16]).any()


# Layers and operations with factors.


def test_operations_quantise_what_is_multiplied(rng):
    plain, quantized = TOKEN_OPS["none"], TOKEN_OPS["int8-smoothed"]
    x, shift, scale = (jnp.asarray(rng.standard_normal((2, size, 32)), jnp.float32) for size in (5, 1, 1))
    factors = jnp.asarray(np.exp2(rng.integers(-6, 7, 32)), jnp.float32)

    def double(x, *, gelu=False):
        return jax.nn.gelu(2 * x, approximate=False) if gelu else 2 * x

    def parts():
        return shift, scale, scale

    for ours, right in (
        (quantized.tokens(x, None, 1, factors), plain.tokens(x)),
        (quantized.hidden(double, x, None, 1, factors), plain.hidden(double, x, None, 1, factors)),
        (quantized.modulate(x, shift, scale, 1, factors), plain.modulate(x, shift, scale, 1, factors)),
        (
            quantized.add_modulate(x, scale, x, parts, 1, factors)[1],
            plain.add_modulate(x, scale, x, parts, 1, factors)[1],
        ),
    ):
        expected = quantize_tokens(right * factors)
        np.testing.assert_allclose(ours.scale, expected.scale, rtol=1e-6)
        steps = np.abs(np.asarray(ours.values, np.int32) - np.asarray(expected.values, np.int32))
        assert steps.max() <= 1
        assert (steps != 0).mean() < 0.01


def test_a_layer_multiplies_what_is_not_quantised_yet(rng):
    layer = QuantizedLinear(64, 3, dtype=jnp.float32, rngs=nnx.Rngs(0), smoothed=True)
    assert layer.input_factors is not None
    assert (layer.input_factors == 1).all()
    factors = np.exp2(rng.integers(-5, 6, 64)).astype(np.float32)
    weight = rng.standard_normal((64, 3)).astype(np.float32)
    integers, scale = quantize_kernel(weight / factors[:, None])
    layer.int8_kernel[...], layer.scale[...] = jnp.asarray(integers), jnp.asarray(scale)
    layer.factors[...] = jnp.asarray(factors)
    x = jnp.asarray(rng.standard_normal((4, 64)) / factors, jnp.float32)
    np.testing.assert_array_equal(layer(x), layer(quantize_tokens(x, factors=jnp.asarray(factors))))
    assert relative_l2(layer(x), x @ weight) < 0.02
    assert QuantizedLinear(64, 3, dtype=jnp.float32, rngs=nnx.Rngs(0)).input_factors is None
