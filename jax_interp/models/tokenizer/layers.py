"""Building blocks of the tokenizer, channels last, computing in the dtype of their parameters.

Upstream's convolutions are factorised: (1,3,3) is a 2D convolution of every frame, (3,1,1) a product along time whose
input is continued to the front by its first frame, 1×1×1 a linear. No frame ever sees a later one. Each sums in float32
and rounds once, after the bias: with a rounding before it as well, the bfloat16 error of a whole network doubles.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

Features = Float[Array, "B F Y X C"]

FRAMES_SEEN = 3
"""Frames that a convolution along time reads for one frame of output."""


class Affine(nnx.Module):
    """A kernel [..., in, out], a bias, and the one rounding; the subclasses say how the kernel meets its input."""

    def __init__(self, window: tuple[int, ...], inputs: int, outputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        initial = nnx.initializers.lecun_normal()
        self.kernel = nnx.Param(initial(rngs.params(), (*window, inputs, outputs), dtype))
        self.bias = nnx.Param(jnp.zeros((outputs,), dtype))

    def add_bias(self, product: Float[Array, "B F Y X C"]) -> Features:
        """Bias and rounding of a float32 product."""
        return (product + self.bias[...].astype(jnp.float32)).astype(self.bias.dtype)


class Linear(Affine):
    """A 1×1×1 convolution."""

    def __init__(self, inputs: int, outputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        super().__init__((), inputs, outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features) -> Features:
        return self.add_bias(jnp.matmul(x, self.kernel[...], preferred_element_type=jnp.float32))


class SpatialConv(Affine):
    """3×3 over every frame, zeros around it; with a stride of two, zeros only below and to the right."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.stride = stride
        super().__init__((3, 3), inputs, outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features) -> Features:
        front = 1 if self.stride == 1 else 0
        product = jax.lax.conv_general_dilated(
            x.reshape(-1, *x.shape[2:]),
            self.kernel[...],
            (self.stride, self.stride),
            ((front, 1), (front, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            preferred_element_type=jnp.float32,
        )
        return self.add_bias(product.reshape(*x.shape[:2], *product.shape[1:]))


class TemporalConv(Affine):
    """Three frames to one, causal: in front of the first frame come copies of it.

    Runs as one matrix product of three frames side by side, which libraries serve better than a 3D convolution.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.stride = stride
        super().__init__((FRAMES_SEEN,), inputs, outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features) -> Features:
        x = jnp.concatenate([x[:, :1]] * (FRAMES_SEEN - self.stride) + [x], axis=1)
        last = x.shape[1] - FRAMES_SEEN
        windows = [x[:, start : start + last + 1 : self.stride] for start in range(FRAMES_SEEN)]
        kernel = self.kernel[...].reshape(-1, self.kernel.shape[-1])
        product = jnp.matmul(jnp.concatenate(windows, axis=-1), kernel, preferred_element_type=jnp.float32)
        return self.add_bias(product)


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
    """x·sigmoid(x), float32 inside. Upstream rounds the sigmoid as well, which only adds error."""
    return jax.nn.silu(x.astype(jnp.float32)).astype(x.dtype)
