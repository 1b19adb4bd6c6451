"""The gated MLP of Llama, Mistral and Pixtral."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jax_interp.config import Quantization
from jax_interp.nn.linear import weight_only_linear


class SwiGLU(nnx.Module):
    """A gated MLP, `down(silu(gate(x)) * up(x))`, without biases (Shazeer, 2020).

    The gate is applied in float32 and the product rounded once. With `quantization` the weights are kept in 8 bits.
    """

    def __init__(
        self, width: int, mlp_width: int, *, dtype: DTypeLike, rngs: nnx.Rngs, quantization: Quantization = "none"
    ):
        linear = partial(weight_only_linear, dtype=dtype, rngs=rngs, quantization=quantization)
        self.gate, self.up = (linear(width, mlp_width) for _ in range(2))
        self.down = linear(mlp_width, width)

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        gate = jax.nn.silu(self.gate(x).astype(jnp.float32))
        return self.down((gate * self.up(x).astype(jnp.float32)).astype(x.dtype))
