"""A linear layer with a low-rank adapter beside it (Hu et al. 2021, "LoRA")."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

DOWN, UP = "lora_down", "lora_up"
"""The names of the adapter's matrices A and B beside the layer's `kernel`."""


class AdaptedLinear(nnx.Module):
    """A linear layer with a LoRA adapter, `x W + scale · (x A) B`, without bias.

    In a stack of layers all arrays have the stack's leading axis."""

    def __init__(self, kernel: nnx.Param, rank: int, scale: float, *, rngs: nnx.Rngs):
        """Start without any effect: A is normal with deviation 1/rank, as upstream's, and B is zero."""
        *stack, inputs, outputs = kernel[...].shape
        dtype = kernel[...].dtype
        self.scale = scale
        self.kernel = kernel
        self.lora_down = nnx.Param(jax.random.normal(rngs.params(), (*stack, inputs, rank), dtype) / rank)
        self.lora_up = nnx.Param(jnp.zeros((*stack, rank, outputs), dtype))

    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... O"]:
        beside = (x @ self.lora_down[...]) @ self.lora_up[...]
        return x @ self.kernel[...] + jnp.asarray(self.scale, x.dtype) * beside
