"""GELU on every bfloat16 value against float64."""

import math

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jax_interp.nn.activations import gelu

ERROR = 3e-7
"""What the function promises before its one rounding."""


@pytest.fixture(scope="module")
def values():
    """Every finite bfloat16 number."""
    numbers = np.arange(2**16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    return numbers[np.isfinite(numbers.astype(np.float32))]


def exact(x):
    return np.array([value * 0.5 * math.erfc(-value * math.sqrt(0.5)) for value in x.astype(np.float64)])


def beyond_rounding(ours, expected):
    """By how much each error is larger than half a unit in the last place of bfloat16."""
    half_unit = np.exp2(np.floor(np.log2(np.maximum(np.abs(expected), 1e-300))) - 8)
    return np.abs(np.asarray(ours, np.float64) - expected) - half_unit


@pytest.mark.parametrize("wrap", [jax.jit, lambda function: function], ids=["compiled", "op by op"])
def test_bfloat16_is_one_rounding_from_exact(values, wrap):
    ours = np.asarray(wrap(gelu)(jnp.asarray(values)))
    assert ours.dtype == ml_dtypes.bfloat16
    assert np.isfinite(ours.astype(np.float32)).all()
    assert beyond_rounding(ours, exact(values)).max() < ERROR


def test_the_tanh_approximation_would_be_noticed(values):
    ours = jax.nn.gelu(jnp.asarray(values).astype(jnp.float32), approximate=True).astype(jnp.bfloat16)
    assert beyond_rounding(ours, exact(values)).max() > 100 * ERROR


def test_float32_is_the_exact_function(rng):
    x = jnp.asarray(rng.standard_normal((3, 500)) * 4, jnp.float32)
    assert np.array_equal(gelu(x), jax.nn.gelu(x, approximate=False))
    assert not np.array_equal(gelu(x), jax.nn.gelu(x, approximate=True))
