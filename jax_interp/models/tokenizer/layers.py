"""Building blocks of the tokenizer, channels last, computing in the dtype of their parameters.

Upstream's convolutions are factorised: (1,3,3) is a 2D convolution of every frame, (3,1,1) one along time whose input
is continued to the front by its first frame, 1×1×1 a linear. No frame ever sees a later one.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

Features = Float[Array, "B F Y X C"]


class Linear(nnx.Linear):
    """A 1×1×1 convolution."""

    def __init__(self, inputs: int, outputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        super().__init__(inputs, outputs, dtype=dtype, param_dtype=dtype, rngs=rngs)


class SpatialConv(nnx.Conv):
    """3×3 over every frame, zeros around it."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stride: int = 1,
        padding: tuple[int, int] = (1, 1),
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            inputs,
            outputs,
            (3, 3),
            strides=(stride, stride),
            padding=(padding, padding),
            dtype=dtype,
            param_dtype=dtype,
            rngs=rngs,
        )


class TemporalConv(nnx.Conv):
    """Three frames to one, causal: in front of the first frame come copies of it.

    Runs as a 2D convolution over (frames, pixels), which GPU libraries serve better than a 3D one.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.front = 3 - stride
        super().__init__(
            inputs,
            outputs,
            (3, 1),
            strides=(stride, 1),
            padding="VALID",
            dtype=dtype,
            param_dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, inputs: Array, out_sharding=None) -> Array:
        batch, _, rows, columns, channels = inputs.shape
        x = jnp.concatenate([inputs[:, :1]] * self.front + [inputs], axis=1)
        x = super().__call__(x.reshape(batch, -1, rows * columns, channels), out_sharding)
        return x.reshape(batch, -1, rows, columns, x.shape[-1])


class FactorizedConv(nnx.Module):
    """(1,3,3), then (3,1,1)."""

    def __init__(self, inputs: int, outputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.spatial = SpatialConv(inputs, outputs, dtype=dtype, rngs=rngs)
        self.temporal = TemporalConv(outputs, outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features) -> Features:
        return self.temporal(self.spatial(x))


class FrameNorm(nnx.Module):
    """Zero mean and unit variance over all pixels and channels of one frame, then scale and bias per channel.

    A group norm with a single group that is not allowed to mix frames. float32 inside, one rounding.
    """

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs, epsilon: float = 1e-6):
        del rngs  # starts as the identity
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones((width,), dtype))
        self.bias = nnx.Param(jnp.zeros((width,), dtype))

    def __call__(self, x: Features) -> Features:
        wide = x.astype(jnp.float32)
        centred = wide - wide.mean((-3, -2, -1), keepdims=True)
        variance = jnp.square(centred).mean((-3, -2, -1), keepdims=True)
        normal = centred * jax.lax.rsqrt(variance + self.epsilon)
        return (normal * self.scale[...].astype(jnp.float32) + self.bias[...].astype(jnp.float32)).astype(x.dtype)


class ResidualBlock(nnx.Module):
    """Norm, swish, convolution, twice, added to the input (through a linear where the width changes)."""

    def __init__(self, inputs: int, outputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm1 = FrameNorm(inputs, dtype=dtype, rngs=rngs)
        self.conv1 = FactorizedConv(inputs, outputs, dtype=dtype, rngs=rngs)
        self.norm2 = FrameNorm(outputs, dtype=dtype, rngs=rngs)
        self.conv2 = FactorizedConv(outputs, outputs, dtype=dtype, rngs=rngs)
        if inputs != outputs:
            self.shortcut = Linear(inputs, outputs, dtype=dtype, rngs=rngs)
        self.changes_width = inputs != outputs

    def __call__(self, x: Features) -> Features:
        h = self.conv1(swish(self.norm1(x)))
        h = self.conv2(swish(self.norm2(h)))
        return (self.shortcut(x) if self.changes_width else x) + h


def swish(x: Array) -> Array:
    """x·sigmoid(x); the sigmoid is rounded to the dtype of `x` before the product."""
    return x * jax.nn.sigmoid(x)
