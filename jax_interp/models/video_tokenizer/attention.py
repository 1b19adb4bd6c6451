"""The middle block of encoder and decoder, the only place with attention between distant pixels."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_interp.models.video_tokenizer.layers import Features, FrameNorm, PointwiseConv, ResidualBlock
from jax_interp.nn.attention import attention


def attend_within_frames(q: Features, k: Features, v: Features) -> Features:
    """Apply attention within frames: every pixel attends to all pixels of its frame."""
    batch, frames, _, _, width = q.shape
    out = attention(*(a.reshape(batch * frames, -1, 1, width) for a in (q, k, v)))
    return out.reshape(q.shape)


def attend_along_time(q: Features, k: Features, v: Features) -> Features:
    """Apply causal attention along time: every pixel attends to itself in this frame and the earlier ones."""
    # A handful of frames: every score fits, and moving time next to the channels for `attention` would cost more.
    scores = jnp.einsum("bqyxc,bkyxc->byxqk", q, k) * q.shape[-1] ** -0.5
    earlier = jnp.tri(q.shape[1], dtype=bool)
    weights = jax.nn.softmax(jnp.where(earlier, scores, -jnp.inf), axis=-1)
    return jnp.einsum("byxqk,bkyxc->bqyxc", weights, v)


class SelfAttention(nnx.Module):
    """Single-head attention of full width with a residual; `attend` decides which positions attend to each other."""

    def __init__(
        self,
        width: int,
        attend: Callable[[Features, Features, Features], Features],
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        linear = partial(PointwiseConv, width, width, dtype=dtype, rngs=rngs)
        self.attend = attend
        self.norm = FrameNorm(width, dtype=dtype, rngs=rngs)
        self.query, self.key, self.value, self.out = linear(), linear(), linear(), linear()

    def __call__(self, x: Features) -> Features:
        h = self.norm(x)
        h = self.out(self.attend(self.query(h), self.key(h), self.value(h)))
        return (x.astype(jnp.float32) + h).astype(x.dtype)


class MiddleBlock(nnx.Module):
    """The middle block: a residual block, spatial attention, temporal attention, a residual block."""

    def __init__(self, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.block_1 = ResidualBlock(width, width, dtype=dtype, rngs=rngs)
        self.spatial_attention = SelfAttention(width, attend_within_frames, dtype=dtype, rngs=rngs)
        self.temporal_attention = SelfAttention(width, attend_along_time, dtype=dtype, rngs=rngs)
        self.block_2 = ResidualBlock(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features) -> Features:
        return self.block_2(self.temporal_attention(self.spatial_attention(self.block_1(x))))
