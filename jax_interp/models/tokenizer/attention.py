"""The middle of encoder and decoder, the only place where pixels far apart meet."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from jax_interp.models.tokenizer.layers import Features, FrameNorm, Linear, ResidualBlock
from jax_interp.nn.attention import attention


class SelfAttention(nnx.Module):
    """Single-head attention of full width, added to its input; the subclasses say which positions see each other."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        linear = partial(Linear, width, width, dtype=dtype, rngs=rngs)
        self.norm = FrameNorm(width, dtype=dtype, rngs=rngs)
        self.query, self.key, self.value, self.out = linear(), linear(), linear(), linear()

    def __call__(self, x: Features) -> Features:
        h = self.norm(x)
        return x + self.out(self.attend(self.query(h), self.key(h), self.value(h)))

    def attend(self, q: Features, k: Features, v: Features) -> Features:
        raise TypeError(f"{type(self).__name__} does not say which positions see each other")


class SpatialAttention(SelfAttention):
    """All pixels of a frame among themselves."""

    def attend(self, q: Features, k: Features, v: Features) -> Features:
        batch, frames, _, _, width = q.shape
        out = attention(*(a.reshape(batch * frames, -1, 1, width) for a in (q, k, v)))
        return out.reshape(q.shape)


class TemporalAttention(SelfAttention):
    """Every pixel with itself in this and earlier frames."""

    def attend(self, q: Features, k: Features, v: Features) -> Features:
        # A handful of frames: every score fits, and moving time next to the channels for `attention` would cost more.
        scores = jnp.einsum("bqyxc,bkyxc->byxqk", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
        earlier = jnp.tri(q.shape[1], dtype=bool)
        weights = jax.nn.softmax(jnp.where(earlier, scores, -jnp.inf), axis=-1)
        out = jnp.einsum("byxqk,bkyxc->bqyxc", weights, v.astype(jnp.float32))
        return out.astype(q.dtype)


class Middle(nnx.Module):
    """The only block with attention: residual, spatial, temporal, residual."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.block_1 = ResidualBlock(width, width, dtype=dtype, rngs=rngs)
        self.spatial_attention = SpatialAttention(width, dtype=dtype, rngs=rngs)
        self.temporal_attention = TemporalAttention(width, dtype=dtype, rngs=rngs)
        self.block_2 = ResidualBlock(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features) -> Features:
        return self.block_2(self.temporal_attention(self.spatial_attention(self.block_1(x))))
