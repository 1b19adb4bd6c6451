"""Norms against their formulas in float64."""

import jax.numpy as jnp
import numpy as np

from jax_interp.nn.norms import BatchNorm, LayerNorm, layer_norm, rms_norm
from jax_interp.nn.params import Network
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


def test_learned_layer_norm(rng):
    x, scale, bias = rng.standard_normal((4, 32)) * 3 + 1, rng.standard_normal(32), rng.standard_normal(32)
    network = Network(lambda rngs: LayerNorm(32, epsilon=1e-3, dtype=jnp.float32, rngs=rngs))
    params = {"scale": jnp.asarray(scale, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * scale + bias
    assert relative_l2(network.bind(params)(jnp.asarray(x, jnp.float32)), expected) < ELEMENTWISE_F32


def test_batch_norm_of_gathered_statistics(rng):
    x, scale, bias, mean = rng.standard_normal((2, 3, 8)), *(rng.standard_normal(8) for _ in range(3))
    variance = rng.uniform(0.5, 2, 8)
    network = Network(lambda rngs: BatchNorm(8, dtype=jnp.float32, rngs=rngs))
    values = {"scale": scale, "bias": bias, "mean": mean, "variance": variance}
    params = {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}
    expected = (x - mean) / np.sqrt(variance + 1e-5) * scale + bias
    assert relative_l2(network.bind(params)(jnp.asarray(x, jnp.float32)), expected) < ELEMENTWISE_F32


def test_bfloat16_rounds_once_at_the_end(rng):
    x = jnp.asarray(rng.standard_normal((8, 64)), jnp.bfloat16)
    scale = jnp.asarray(rng.standard_normal(64), jnp.bfloat16)
    wide = rms_norm(x.astype(jnp.float32), scale.astype(jnp.float32))
    assert jnp.array_equal(rms_norm(x, scale), wide.astype(jnp.bfloat16))
