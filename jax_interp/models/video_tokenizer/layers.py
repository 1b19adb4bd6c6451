"""Layers of the video tokenizer, with channels last.

Upstream's convolutions are factorised: (1,3,3) is a 2D convolution of every frame, (3,1,1) a causal convolution along
time, padded at the front with copies of the first frame, and 1×1×1 a linear layer. No frame depends on a later one.

Every layer returns float32. Pointwise and spatial convolutions round their input to the dtype of the parameters, and
blocks pass values to each other in it. Upstream in bfloat16 rounds after every operation instead, which makes its error
against float32 about 1.6 times as large.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Features = Float[Array, "B _ _ _ _"]
"""[B, F, Y, X, C], of which a layer may change all but the first."""

FRAMES_SEEN = 3
"""The number of frames that a convolution along time reads for one frame of output."""


class Past:
    """What causal layers know of the frames before a piece of a clip; for the first piece, and a whole clip, nothing.

    A network takes one of these for each piece, and asks it in the order of its layers. `kept` is then what the layers
    need for the next piece: a few frames of each layer's input.

    ```python
    past = Past()
    first = decoder(latents[:, :1], past)
    second = decoder(latents[:, 1:], Past(past.kept))
    ```
    """

    def __init__(self, kept: Sequence[Features] | None = None):
        self.begins = kept is None
        """Whether no frame came before."""
        self._earlier = iter(kept or ())
        self.kept: list[Features] = []

    def before(self, x: Features, count: int) -> Features:
        """Return `x` behind the `count` frames before it; where there are none they are copies of its first frame."""
        earlier = [x[:, :1]] * count if self.begins else [next(self._earlier)]
        x = jnp.concatenate([*earlier, x], axis=1)
        self.kept.append(x[:, x.shape[1] - count :])
        return x


class Affine(nnx.Module):
    """A layer with a kernel [..., in, out] and a bias; subclasses define `product`, the use of the kernel."""

    def __init__(self, window: tuple[int, ...], inputs: int, outputs: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        initial = nnx.initializers.lecun_normal()
        self.kernel = nnx.Param(initial(rngs.params(), (*window, inputs, outputs), dtype))
        self.bias = nnx.Param(jnp.zeros((outputs,), dtype))

    def __call__(self, x: Features) -> Features:
        return self.product(x, self.kernel[...]) + self.bias[...].astype(jnp.float32)

    def product(self, x: Features, kernel: Array) -> Features:
        """Multiply `x` by `kernel` at every position; sums are float32."""
        return jnp.matmul(x.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32)


class PointwiseConv(Affine):
    """A 1×1×1 convolution."""

    def __init__(self, inputs: int, outputs: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        super().__init__((), inputs, outputs, dtype=dtype, rngs=rngs)


class SpatialConv(Affine):
    """A 3×3 convolution of every frame with zero padding; with a stride of two only below and to the right."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dtype: DTypeLike, rngs: nnx.Rngs):
        self.stride = stride
        super().__init__((3, 3), inputs, outputs, dtype=dtype, rngs=rngs)

    def product(self, x: Features, kernel: Array) -> Features:
        front = 1 if self.stride == 1 else 0
        out = jax.lax.conv_general_dilated(
            x.astype(kernel.dtype).reshape(-1, *x.shape[2:]),
            kernel,
            (self.stride, self.stride),
            ((front, 1), (front, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            preferred_element_type=jnp.float32,
        )
        return out.reshape(*x.shape[:2], *out.shape[1:])


class TemporalConv(Affine):
    """A causal convolution of three frames to one, padded at the front with copies of a clip's first frame.

    It runs as one matrix product of three frames side by side, which is faster than a 3D convolution. It does not round
    its input, which mostly is the float32 sum of a spatial convolution.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dtype: DTypeLike, rngs: nnx.Rngs):
        self.stride = stride
        super().__init__((FRAMES_SEEN,), inputs, outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features, past: Past | None = None) -> Features:
        return super().__call__((past or Past()).before(x, FRAMES_SEEN - self.stride))

    def product(self, x: Features, kernel: Array) -> Features:
        last = x.shape[1] - FRAMES_SEEN
        windows = [x[:, start : start + last + 1 : self.stride] for start in range(FRAMES_SEEN)]
        kernel = kernel.reshape(-1, kernel.shape[-1]).astype(x.dtype)
        return jnp.matmul(jnp.concatenate(windows, axis=-1), kernel, preferred_element_type=jnp.float32)


class FactorizedConv(nnx.Module):
    """A factorised 3×3×3 convolution: (1,3,3), then (3,1,1)."""

    def __init__(self, inputs: int, outputs: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.spatial = SpatialConv(inputs, outputs, dtype=dtype, rngs=rngs)
        self.temporal = TemporalConv(outputs, outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features, past: Past | None = None) -> Features:
        return self.temporal(self.spatial(x), past)


class FrameNorm(nnx.Module):
    """A normalisation over all pixels and channels of each frame, then scale and bias per channel.

    It is a group norm with a single group that does not mix frames.
    """

    def __init__(self, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs, epsilon: float = 1e-6):
        del rngs  # starts as the identity
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones((width,), dtype))
        self.bias = nnx.Param(jnp.zeros((width,), dtype))

    def __call__(self, x: Features) -> Features:
        wide = x.astype(jnp.float32)
        centred = wide - wide.mean((-3, -2, -1), keepdims=True)
        variance = jnp.square(centred).mean((-3, -2, -1), keepdims=True)
        normal = centred * jax.lax.rsqrt(variance + self.epsilon)
        return normal * self.scale[...].astype(jnp.float32) + self.bias[...].astype(jnp.float32)


class ResidualBlock(nnx.Module):
    """A residual block: twice norm, swish and convolution, with a pointwise shortcut where the width changes."""

    def __init__(self, inputs: int, outputs: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.norm1 = FrameNorm(inputs, dtype=dtype, rngs=rngs)
        self.conv1 = FactorizedConv(inputs, outputs, dtype=dtype, rngs=rngs)
        self.norm2 = FrameNorm(outputs, dtype=dtype, rngs=rngs)
        self.conv2 = FactorizedConv(outputs, outputs, dtype=dtype, rngs=rngs)
        if inputs != outputs:
            self.shortcut = PointwiseConv(inputs, outputs, dtype=dtype, rngs=rngs)
        self.changes_width = inputs != outputs

    def __call__(self, x: Features, past: Past | None = None) -> Features:
        h = self.conv1(jax.nn.silu(self.norm1(x)), past)
        h = self.conv2(jax.nn.silu(self.norm2(h)), past)
        straight = self.shortcut(x) if self.changes_width else x.astype(jnp.float32)
        return (straight + h).astype(x.dtype)
