"""Sinusoidal embedding of the noise level and learned positions over a grid."""

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

MAX_PERIOD = 10000.0


def sinusoid(values: Float[Array, " B"], width: int) -> Float[Array, "B D"]:
    """`[cos | sin]` of `values` times `MAX_PERIOD^(-i / (D/2))`, in float32."""
    frequencies = jnp.exp(-math.log(MAX_PERIOD) * jnp.arange(width // 2, dtype=jnp.float32) / (width // 2))
    angles = values.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class AxisPositions(nnx.Module):
    """A learned vector for every index of each axis; a cell's position is the sum of its three, at unit RMS."""

    def __init__(self, grid: tuple[int, int, int], width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        init = nnx.initializers.normal(0.02)
        self.t, self.h, self.w = (nnx.Param(init(rngs.params(), (size, width), dtype)) for size in grid)

    def __call__(self, grid: tuple[int, int, int]) -> Float[Array, "L D"]:
        """Positions of a (T, H, W) grid of patches, row-major."""
        t, h, w = (table[...][:size] for table, size in zip((self.t, self.h, self.w), grid, strict=True))
        summed = t[:, None, None] + h[None, :, None] + w[None, None, :]
        positions = summed.reshape(-1, summed.shape[-1])
        rms = jnp.sqrt(jnp.square(positions.astype(jnp.float32)).mean(-1, keepdims=True))
        return positions / (1e-6 + rms).astype(positions.dtype)
