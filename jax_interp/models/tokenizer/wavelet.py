"""Haar wavelet packets over (time, height, width), which stand in for patches at both ends of the tokenizer.

The filter is data, not a constant: checkpoints store it in bfloat16 (0.70703125 twice), so the transform and its
inverse are exact only together with the factors 2√2 and up to that rounding.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

STORED_FILTER = 0.70703125
"""√½ rounded to bfloat16, as in the published checkpoints."""

RESCALE = 2 * math.sqrt(2)
TIME, HEIGHT, WIDTH = 1, 2, 3


class Filter(nnx.Variable):
    """The two taps of the low-pass filter; fixed, so not an `nnx.Param` that training would move."""


class Patcher(nnx.Module):
    """Video to wavelet coefficients: `size` times smaller along each axis, `size`³ times more channels."""

    def __init__(self, size: int, *, dtype: jnp.dtype):
        self.size = size
        self.wavelets = Filter(jnp.full((2,), STORED_FILTER, dtype))

    def __call__(self, x: Float[Array, "B F Y X C"]) -> Float[Array, "B f y x c"]:
        """Repeat the first frame `size` times (1 + n frames -> size + n) and transform."""
        x = jnp.concatenate([x[:, :1]] * self.size + [x[:, 1:]], axis=TIME)
        for _ in range(_rounds(self.size)):
            x = split_bands(x, self.wavelets[...])
        return x


class Unpatcher(nnx.Module):
    """Wavelet coefficients back to video: inverse of `Patcher`."""

    def __init__(self, size: int, *, dtype: jnp.dtype):
        self.size = size
        self.wavelets = Filter(jnp.full((2,), STORED_FILTER, dtype))

    def __call__(self, x: Float[Array, "B f y x c"]) -> Float[Array, "B F Y X C"]:
        """Transform back and drop the first `size - 1` frames, which only repeat the first picture."""
        for _ in range(_rounds(self.size)):
            x = merge_bands(x, self.wavelets[...])
        return x[:, self.size - 1 :]


def split_bands(x: Float[Array, "B F Y X C"], taps: Float[Array, " 2"]) -> Float[Array, "B f y x c"]:
    """One level: each of the last axes but channels is halved; bands LLL, LLH, ..., HHH (t, h, w) go to channels."""
    bands = [x]
    for axis in (TIME, HEIGHT, WIDTH):
        bands = [half for band in bands for half in _analyse(band, taps, axis)]
    joined = jnp.concatenate(bands, axis=-1)
    return (joined.astype(jnp.float32) / RESCALE).astype(x.dtype)


def merge_bands(x: Float[Array, "B f y x c"], taps: Float[Array, " 2"]) -> Float[Array, "B F Y X C"]:
    """Inverse of `split_bands`."""
    bands = jnp.split(x, 8, axis=-1)
    for axis in (WIDTH, HEIGHT, TIME):
        bands = [_synthesise(low, high, taps, axis) for low, high in zip(bands[::2], bands[1::2], strict=True)]
    return (bands[0].astype(jnp.float32) * RESCALE).astype(x.dtype)


def _analyse(x: Array, taps: Array, axis: int) -> tuple[Array, Array]:
    """Low and high half-band of even and odd samples; one rounding each."""
    even, odd = (jax.lax.slice_in_dim(x, start, None, 2, axis).astype(jnp.float32) for start in (0, 1))
    first, second = taps.astype(jnp.float32)
    low, high = second * even + first * odd, first * even - second * odd
    return low.astype(x.dtype), high.astype(x.dtype)


def _synthesise(low: Array, high: Array, taps: Array, axis: int) -> Array:
    """Interleave the samples that `_analyse` took apart."""
    # parity: products and their sum are rounded one by one, as upstream's two transposed convolutions do.
    first, second = taps.astype(low.dtype)
    even, odd = second * low + first * high, first * low - second * high
    shape = list(low.shape)
    shape[axis] *= 2
    return jnp.stack([even, odd], axis=axis + 1).reshape(shape)


def _rounds(size: int) -> int:
    return size.bit_length() - 1
