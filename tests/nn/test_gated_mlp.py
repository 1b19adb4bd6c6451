import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_interp.nn.gated_mlp import SwiGLU
from tests import tolerances


def by_hand(mlp, x):
    gate, up, down = (np.asarray(linear.kernel[...], np.float64) for linear in (mlp.gate, mlp.up, mlp.down))
    opened = x @ gate
    return (opened / (1 + np.exp(-opened)) * (x @ up)) @ down


def test_against_float64():
    mlp = SwiGLU(6, 10, dtype="float32", rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).standard_normal((2, 3, 6)).astype(np.float32)
    expected = by_hand(mlp, x.astype(np.float64))
    error = np.linalg.norm(np.asarray(mlp(jnp.asarray(x))) - expected) / np.linalg.norm(expected)
    assert error <= tolerances.ELEMENTWISE_F32
    swapped = SwiGLU(6, 10, dtype="float32", rngs=nnx.Rngs(0))
    swapped.gate, swapped.up = mlp.up, mlp.gate
    assert np.linalg.norm(np.asarray(swapped(jnp.asarray(x))) - expected) > 0.1 * np.linalg.norm(expected)


def test_computes_in_the_dtype_of_its_parameters():
    mlp = SwiGLU(6, 10, dtype="bfloat16", rngs=nnx.Rngs(0))
    assert jax.eval_shape(mlp, jnp.zeros((1, 2, 6), jnp.bfloat16)).dtype == jnp.bfloat16
