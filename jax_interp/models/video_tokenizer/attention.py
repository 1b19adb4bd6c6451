"""The middle block of encoder and decoder, the only place with attention between distant pixels."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from jax_interp.models.video_tokenizer.layers import Features, FrameNorm, Past, PointwiseConv, ResidualBlock
from jax_interp.nn.attention import attention


def attend_within_frames(q: Features, k: Features, v: Features) -> Features:
    """Apply attention within frames: every pixel attends to all pixels of its frame."""
    batch, frames, _, _, width = q.shape
    out = attention(*(a.reshape(batch * frames, -1, 1, width) for a in (q, k, v)))
    return out.reshape(q.shape)


def attend_along_time(q: Features, k: Features, v: Features, start: int | Array = 0) -> Features:
    """Apply causal attention along time: every pixel attends to itself in this frame and the earlier ones.

    The first frame of `q` is frame `start` of `k` and `v`, of which later ones are not read.
    """
    # A handful of frames: every score fits, and moving time next to the channels for `attention` would cost more.
    scores = jnp.einsum("bqyxc,bkyxc->byxqk", q, k) * q.shape[-1] ** -0.5
    earlier = jnp.arange(k.shape[1]) <= start + jnp.arange(q.shape[1])[:, None]
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
        return self.add(x, self.attend(*self.project(x)))

    def project(self, x: Features) -> tuple[Features, Features, Features]:
        """Return queries, keys and values."""
        h = self.norm(x)
        return self.query(h), self.key(h), self.value(h)

    def add(self, x: Features, attended: Features) -> Features:
        """Return `x` with what attention gave for it."""
        return (x.astype(jnp.float32) + self.out(attended)).astype(x.dtype)


class MiddleBlock(nnx.Module):
    """The middle block: a residual block, spatial attention, temporal attention, a residual block.

    A runtime that passes a clip in pieces calls what is before and behind the temporal attention itself.
    """

    def __init__(self, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.block_1 = ResidualBlock(width, width, dtype=dtype, rngs=rngs)
        self.spatial_attention = SelfAttention(width, attend_within_frames, dtype=dtype, rngs=rngs)
        self.temporal_attention = SelfAttention(width, attend_along_time, dtype=dtype, rngs=rngs)
        self.block_2 = ResidualBlock(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features) -> Features:
        return self.behind(self.temporal_attention(self.before(x)))

    def before(self, x: Features, past: Past | None = None) -> Features:
        """Apply the first residual block and spatial attention."""
        return self.spatial_attention(self.block_1(x, past))

    def behind(self, x: Features, past: Past | None = None) -> Features:
        """Apply the last residual block."""
        return self.block_2(x, past)
