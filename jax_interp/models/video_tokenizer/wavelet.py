"""Haar wavelet packets over (time, height, width), which the tokenizer uses in place of patches.

The filter is data, not a constant: checkpoints store it in bfloat16 (0.70703125 twice), so that the inverse gives the
video back a little smaller. It computes in float32, as every layer here.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

STORED_FILTER = 0.70703125
"""√½ rounded to bfloat16, as in the published checkpoints."""

RESCALE = 2 * math.sqrt(2)
TIME, HEIGHT, WIDTH = 1, 2, 3


class Filter(nnx.Variable):
    """The two taps of the low-pass filter. It is not an `nnx.Param`, so training does not change it."""


class Patcher(nnx.Module):
    """Transforms video to wavelet coefficients: `size` times smaller along each axis, `size`³ times more channels."""

    def __init__(self, size: int, *, dtype: DTypeLike):
        self.size = size
        self.wavelets = Filter(jnp.full((2,), STORED_FILTER, dtype))

    def __call__(self, x: Float[Array, "B F Y X C"], begins: bool = True) -> Float[Array, "B f y x c"]:
        """Repeat a clip's first frame `size` times (1 + n frames -> size + n) and transform.

        With `begins=False` the frames are a later piece of a clip, a multiple of `size`, and none is repeated.
        """
        if begins:
            x = jnp.concatenate([x[:, :1]] * self.size + [x[:, 1:]], axis=TIME)
        x = x.astype(jnp.float32)
        for _ in range(_rounds(self.size)):
            x = split_bands(x, self.wavelets[...].astype(jnp.float32))
        return x


class Unpatcher(nnx.Module):
    """Transforms wavelet coefficients (float32) back to video: the inverse of `Patcher`."""

    def __init__(self, size: int, *, dtype: DTypeLike):
        self.size = size
        self.wavelets = Filter(jnp.full((2,), STORED_FILTER, dtype))

    def __call__(self, x: Float[Array, "B f y x c"], begins: bool = True) -> Float[Array, "B F Y X C"]:
        """Transform back; where a clip begins, drop the first `size - 1` frames, which only repeat its first one."""
        for _ in range(_rounds(self.size)):
            x = merge_bands(x, self.wavelets[...].astype(jnp.float32))
        return x[:, self.size - 1 if begins else 0 :]


def split_bands(x: Float[Array, "B F Y X C"], taps: Float[Array, " 2"]) -> Float[Array, "B f y x c"]:
    """Apply one level: time, height and width are halved; the bands LLL, LLH, ..., HHH (t, h, w) become channels."""
    bands = [x]
    for axis in (TIME, HEIGHT, WIDTH):
        bands = [half for band in bands for half in _analyse(band, taps, axis)]
    return jnp.concatenate(bands, axis=-1) / RESCALE


def merge_bands(x: Float[Array, "B f y x c"], taps: Float[Array, " 2"]) -> Float[Array, "B F Y X C"]:
    """Merge bands to the signal: the inverse of `split_bands`."""
    bands = jnp.split(x, 8, axis=-1)
    for axis in (WIDTH, HEIGHT, TIME):
        bands = [_synthesise(low, high, taps, axis) for low, high in zip(bands[::2], bands[1::2], strict=True)]
    return bands[0] * RESCALE


def _analyse(x: Array, taps: Array, axis: int) -> tuple[Array, Array]:
    """Low and high half-band of even and odd samples."""
    even, odd = (jax.lax.slice_in_dim(x, start, None, 2, axis) for start in (0, 1))
    first, second = taps
    return second * even + first * odd, first * even - second * odd


def _synthesise(low: Array, high: Array, taps: Array, axis: int) -> Array:
    """Interleave the samples that `_analyse` separated."""
    first, second = taps
    even, odd = second * low + first * high, first * low - second * high
    shape = list(low.shape)
    shape[axis] *= 2
    return jnp.stack([even, odd], axis=axis + 1).reshape(shape)


def _rounds(size: int) -> int:
    return size.bit_length() - 1
