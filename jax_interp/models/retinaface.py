"""RetinaFace (Deng et al., 2020), a face detector on a ResNet (He et al., 2016).

Channels are last. It computes in the dtype of its parameters; batch normalisation is float32 inside and rounds once.
Only the convolutions of the heads have a bias.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from jax_interp.config import RetinaFaceConfig
from jax_interp.nn.norms import BatchNorm

Features = Float[Array, "B _ _ _"]
"""[B, Y, X, C], of which a layer may change all but the first."""

EXPANSION = 4
"""The ratio of a block's output channels to its inner channels."""

ANCHORS = 2
"""The number of anchors, which differ in size, at every cell of a feature map."""

NUM_LEVELS = 3
"""The number of feature maps, whose strides are 8, 16 and 32 pixels."""


class RetinaFaceOutputs(NamedTuple):
    """The network's outputs for each anchor, in the order (level, row, cell, size)."""

    offsets: Float32[Array, "B anchors 4"]
    """Offsets of the box from the anchor in units of the variances: centre x and y, logarithm of width and height."""
    scores: Float32[Array, "B anchors"]
    """The probability of a face."""
    landmarks: Float32[Array, "B anchors 10"]
    """Eyes, nose and corners of the mouth as x and y, relative to the anchor."""


class Conv(nnx.Module):
    """A convolution with zero padding, equal on both sides, with which a stride of one keeps the size."""

    def __init__(
        self, size: int, inputs: int, outputs: int, *, stride: int = 1, use_bias: bool = False, dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        self.stride, self.around = stride, size // 2
        initial = nnx.initializers.he_normal()
        self.kernel = nnx.Param(initial(rngs.params(), (size, size, inputs, outputs), dtype))
        self.bias = nnx.Param(jnp.zeros((outputs,), dtype)) if use_bias else None

    def __call__(self, x: Features) -> Features:
        out = jax.lax.conv_general_dilated(
            x,
            self.kernel[...],
            window_strides=(self.stride, self.stride),
            padding=[(self.around, self.around)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return out if self.bias is None else out + self.bias[...]


class ConvNorm(nnx.Module):
    """A convolution and its batch normalisation."""

    def __init__(self, size: int, inputs: int, outputs: int, *, stride: int = 1, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv = Conv(size, inputs, outputs, stride=stride, dtype=dtype, rngs=rngs)
        self.norm = BatchNorm(outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features) -> Features:
        return self.norm(self.conv(x))


class Bottleneck(nnx.Module):
    """A bottleneck residual block: 1×1 to fewer channels, 3×3 with the stride, 1×1 to more; 1×1 where shapes change."""

    def __init__(self, inputs: int, width: int, *, stride: int, dtype: DTypeLike, rngs: nnx.Rngs):
        outputs = EXPANSION * width
        self.reduce = ConvNorm(1, inputs, width, dtype=dtype, rngs=rngs)
        self.spatial = ConvNorm(3, width, width, stride=stride, dtype=dtype, rngs=rngs)
        self.expand = ConvNorm(1, width, outputs, dtype=dtype, rngs=rngs)
        changes = stride != 1 or inputs != outputs
        self.shortcut = ConvNorm(1, inputs, outputs, stride=stride, dtype=dtype, rngs=rngs) if changes else None

    def __call__(self, x: Features) -> Features:
        inner = jax.nn.relu(self.spatial(jax.nn.relu(self.reduce(x))))
        return jax.nn.relu(self.expand(inner) + (x if self.shortcut is None else self.shortcut(x)))


class Backbone(nnx.Module):
    """The backbone: a ResNet without its classifier, which gives the feature maps of its last three stages."""

    def __init__(self, config: RetinaFaceConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.num_blocks = config.num_blocks
        self.stem = ConvNorm(7, 3, config.width, stride=2, dtype=dtype, rngs=rngs)
        channels = config.width
        for stage, count in enumerate(config.num_blocks, 1):
            width = config.width * 2 ** (stage - 1)
            for block in range(count):
                stride = 2 if stage > 1 and block == 0 else 1
                module = Bottleneck(channels, width, stride=stride, dtype=dtype, rngs=rngs)
                setattr(self, f"stage_{stage}_block_{block}", module)
                channels = EXPANSION * width

    def __call__(self, x: Features) -> list[Features]:
        x = _max_pool(jax.nn.relu(self.stem(x)))
        maps = []
        for stage, count in enumerate(self.num_blocks, 1):
            for block in range(count):
                x = getattr(self, f"stage_{stage}_block_{block}")(x)
            maps.append(x)
        return maps[-NUM_LEVELS:]


class FeaturePyramid(nnx.Module):
    """The feature pyramid: every map gets the same channels, and adds the next coarser map."""

    def __init__(self, config: RetinaFaceConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.slope = _slope(config)
        width = config.neck_width
        for level in range(1, NUM_LEVELS + 1):
            inputs = EXPANSION * config.width * 2**level
            setattr(self, f"output{level}", ConvNorm(1, inputs, width, dtype=dtype, rngs=rngs))
        self.merge1 = ConvNorm(3, width, width, dtype=dtype, rngs=rngs)
        self.merge2 = ConvNorm(3, width, width, dtype=dtype, rngs=rngs)

    def __call__(self, maps: list[Features]) -> list[Features]:
        fine, middle, coarse = (
            jax.nn.leaky_relu(getattr(self, f"output{level}")(x), self.slope) for level, x in enumerate(maps, 1)
        )
        middle = jax.nn.leaky_relu(self.merge2(middle + _resize_nearest(coarse, middle)), self.slope)
        fine = jax.nn.leaky_relu(self.merge1(fine + _resize_nearest(middle, fine)), self.slope)
        return [fine, middle, coarse]


class ContextModule(nnx.Module):
    """The context module of SSH: convolutions that see 3×3, 5×5 and 7×7 cells, side by side."""

    def __init__(self, config: RetinaFaceConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.slope = _slope(config)
        width, part = config.neck_width, config.neck_width // 4
        self.see_3 = ConvNorm(3, width, 2 * part, dtype=dtype, rngs=rngs)
        self.see_5_first = ConvNorm(3, width, part, dtype=dtype, rngs=rngs)
        self.see_5 = ConvNorm(3, part, part, dtype=dtype, rngs=rngs)
        self.see_7_first = ConvNorm(3, part, part, dtype=dtype, rngs=rngs)
        self.see_7 = ConvNorm(3, part, part, dtype=dtype, rngs=rngs)

    def __call__(self, x: Features) -> Features:
        first = jax.nn.leaky_relu(self.see_5_first(x), self.slope)
        second = jax.nn.leaky_relu(self.see_7_first(first), self.slope)
        return jax.nn.relu(jnp.concatenate([self.see_3(x), self.see_5(first), self.see_7(second)], axis=-1))


class RetinaFace(nnx.Module):
    """The face detector: pictures to `RetinaFaceOutputs`."""

    def __init__(self, config: RetinaFaceConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.body = Backbone(config, dtype=dtype, rngs=rngs)
        self.neck = FeaturePyramid(config, dtype=dtype, rngs=rngs)
        for level in range(1, NUM_LEVELS + 1):
            setattr(self, f"context{level}", ContextModule(config, dtype=dtype, rngs=rngs))
        for name, values in (("box", 4), ("class", 2), ("landmark", 10)):
            for level in range(NUM_LEVELS):
                head = Conv(1, config.neck_width, ANCHORS * values, use_bias=True, dtype=dtype, rngs=rngs)
                setattr(self, f"{name}_head_{level}", head)

    def __call__(self, pixels: Float[Array, "B Y X 3"]) -> RetinaFaceOutputs:
        """Detect faces on `pixels`, BGR from `guardrails.faces.prepare_for_detector`; each size compiles by itself."""
        maps = self.neck(self.body(pixels.astype(self.body.stem.conv.kernel[...].dtype)))
        maps = [getattr(self, f"context{level}")(x) for level, x in enumerate(maps, 1)]
        scores = jax.nn.softmax(self._heads("class", maps, 2), axis=-1)[..., 1]
        return RetinaFaceOutputs(self._heads("box", maps, 4), scores, self._heads("landmark", maps, 10))

    def _heads(self, name: str, maps: list[Features], values: int) -> Float32[Array, "B anchors values"]:
        found = [getattr(self, f"{name}_head_{level}")(x) for level, x in enumerate(maps)]
        return jnp.concatenate([x.reshape(x.shape[0], -1, values) for x in found], axis=1).astype(jnp.float32)


def _slope(config: RetinaFaceConfig) -> float:
    """parity: narrow pyramids let a tenth of what is negative through."""
    return 0.1 if config.neck_width <= 64 else 0.0


def _max_pool(x: Features) -> Features:
    """Return the largest of 3×3 cells, at every second position."""
    padding = [(0, 0), (1, 1), (1, 1), (0, 0)]
    lowest = np.array(-np.inf, x.dtype)
    return jax.lax.reduce_window(x, lowest, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)


def _resize_nearest(x: Features, like: Features) -> Features:
    """`x` at the height and width of `like`, whose sides may be odd and then are not twice as long."""
    rows, columns = (
        np.minimum(np.arange(new) * np.float32(old / new), old - 1).astype(np.int32)
        for old, new in zip(x.shape[1:3], like.shape[1:3], strict=True)
    )
    return x[:, rows][:, :, columns]
