"""The levels of encoder and decoder: residual blocks at one resolution, and the steps between resolutions."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_interp.models.video_tokenizer.layers import (
    Features,
    Past,
    PointwiseConv,
    ResidualBlock,
    SpatialConv,
    TemporalConv,
)


class Downsample(nnx.Module):
    """Halves height and width, then frames (1 + 2n -> 1 + n), each by a strided convolution plus an average.

    A piece that others come before has an even number of frames (2n -> n).
    """

    def __init__(self, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.spatial = SpatialConv(width, width, stride=2, dtype=dtype, rngs=rngs)
        self.temporal = TemporalConv(width, width, stride=2, dtype=dtype, rngs=rngs)
        self.mix = PointwiseConv(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features, past: Past | None = None) -> Features:
        past = past or Past()
        dtype, (batch, frames, rows, columns, width) = x.dtype, x.shape
        cells = x.astype(jnp.float32).reshape(batch, frames, rows // 2, 2, columns // 2, 2, width)
        x = self.spatial(x) + cells.mean((3, 5))
        if past.begins:
            x = jnp.concatenate([x[:, :1], x], axis=1)
        x = self.temporal(x, past) + x.reshape(batch, (frames + 1) // 2, 2, *x.shape[2:]).mean(2)
        return self.mix(x).astype(dtype)


class Upsample(nnx.Module):
    """Doubles frames (1 + n -> 1 + 2n), then height and width, each by repetition and a correcting convolution.

    Of a piece that others come before, all frames are doubled (n -> 2n).
    """

    def __init__(self, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.temporal = TemporalConv(width, width, dtype=dtype, rngs=rngs)
        self.spatial = SpatialConv(width, width, dtype=dtype, rngs=rngs)
        self.mix = PointwiseConv(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features, past: Past | None = None) -> Features:
        past = past or Past()
        dtype = x.dtype
        x = jnp.repeat(x, 2, axis=1)[:, 1 if past.begins else 0 :]
        x = self.temporal(x, past) + x.astype(jnp.float32)
        x = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)
        return self.mix(self.spatial(x) + x).astype(dtype)


class Level(nnx.Module):
    """Residual blocks at one resolution, the first of which changes the width, and an optional change of resolution."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        num_blocks: int,
        resample: type[Downsample] | type[Upsample] | None,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.num_blocks = num_blocks
        for i in range(num_blocks):
            setattr(self, f"block_{i}", ResidualBlock(outputs if i else inputs, outputs, dtype=dtype, rngs=rngs))
        self.resamples = resample is not None
        if resample is not None:
            self.resample = resample(outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features, past: Past | None = None) -> Features:
        past = past or Past()
        for i in range(self.num_blocks):
            x = getattr(self, f"block_{i}")(x, past)
        return self.resample(x, past) if self.resamples else x
