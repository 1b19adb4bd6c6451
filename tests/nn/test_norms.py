"""Norms against their formulas in float64."""

import jax.numpy as jnp
import numpy as np

from jax_interp.nn.norms import layer_norm, rms_norm
from tests.golden import relative_l2
from tests.tolerances import ELEMENTWISE_F32


def test_layer_norm(rng):
    x = rng.standard_normal((4, 32)) * 3 + 1
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    assert relative_l2(layer_norm(jnp.asarray(x, jnp.float32)), expected) < ELEMENTWISE_F32


def test_rms_norm(rng):
    x, scale = rng.standard_normal((4, 32)), rng.standard_normal(32)
    expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale
    out = rms_norm(jnp.asarray(x, jnp.float32), jnp.asarray(scale, jnp.float32))
    assert relative_l2(out, expected) < ELEMENTWISE_F32


def test_bfloat16_rounds_once_at_the_end(rng):
    x = jnp.asarray(rng.standard_normal((8, 64)), jnp.bfloat16)
    scale = jnp.asarray(rng.standard_normal(64), jnp.bfloat16)
    wide = rms_norm(x.astype(jnp.float32), scale.astype(jnp.float32))
    assert jnp.array_equal(rms_norm(x, scale), wide.astype(jnp.bfloat16))
