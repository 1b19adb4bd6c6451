"""The gated MLP of Llama, Mistral and Pixtral."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class SwiGLU(nnx.Module):
    """A gated MLP, `down(silu(gate(x)) * up(x))`, without biases (Shazeer, 2020).

    The gate is applied in float32 and the product rounded once.
    """

    def __init__(self, width: int, mlp_width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.gate, self.up = (_linear(width, mlp_width, dtype, rngs) for _ in range(2))
        self.down = _linear(mlp_width, width, dtype, rngs)

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        gate = jax.nn.silu(self.gate(x).astype(jnp.float32))
        return self.down((gate * self.up(x).astype(jnp.float32)).astype(x.dtype))


def _linear(inputs: int, outputs: int, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Linear:
    init = nnx.initializers.normal(inputs**-0.5)
    return nnx.Linear(inputs, outputs, use_bias=False, param_dtype=dtype, kernel_init=init, rngs=rngs)
