"""The sinusoidal embedding of the noise level, and learned position embeddings over a grid."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

MAX_PERIOD = 10000.0


def sinusoid(values: Float[Array, " B"], width: int) -> Float[Array, "B D"]:
    """Return the sinusoidal embedding, `[cos | sin]` of `values` times `MAX_PERIOD^(-i / (D/2))`, in float32."""
    frequencies = jnp.exp(-math.log(MAX_PERIOD) * jnp.arange(width // 2, dtype=jnp.float32) / (width // 2))
    angles = values.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class GridPositions(NamedTuple):
    """Position embeddings of a (T, H, W) grid of patches by axis, with a thousandth of the bytes of all vectors."""

    t: Float[Array, "T 1 1 D"]
    h: Float[Array, "H 1 D"]
    w: Float[Array, "W D"]
    rms: Float[Array, "T H W 1"]
    """The root mean square of every cell's sum, by which the sum is divided."""

    def expand(self) -> Float[Array, "L D"]:
        """Return the vector of every cell, in row-major order."""
        return ((self.t + self.h + self.w) / self.rms).reshape(-1, self.w.shape[-1])


class CellPositions(NamedTuple):
    """Position embeddings of some cells of the grid, one vector each."""

    vectors: Float[Array, "*cells D"]

    def expand(self) -> Float[Array, "L D"]:
        """Return the vectors as a flat sequence."""
        return self.vectors.reshape(-1, self.vectors.shape[-1])


class AxisPositions(nnx.Module):
    """Learned position embeddings, a vector for every index of each axis; a cell gets the sum of three at unit RMS."""

    def __init__(self, grid: tuple[int, int, int], width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        init = nnx.initializers.normal(0.02)
        self.t, self.h, self.w = (nnx.Param(init(rngs.params(), (size, width), dtype)) for size in grid)

    def __call__(self, grid: tuple[int, int, int]) -> GridPositions:
        """Return the position embeddings of a (T, H, W) grid of patches."""
        t, h, w = (table[...][:size] for table, size in zip((self.t, self.h, self.w), grid, strict=True))
        t, h = t[:, None, None], h[:, None]
        summed = (t + h + w).astype(jnp.float32)
        rms = jnp.sqrt(jnp.square(summed).mean(-1, keepdims=True))
        return GridPositions(t, h, w, (1e-6 + rms).astype(w.dtype))
