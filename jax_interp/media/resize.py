"""The conversion of pixels to the network's range, uint8 to [-1, 1] at the output size, and back."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, BFloat16, Float, UInt8
from numpy import asarray, ndarray, uint8


@partial(jax.jit, static_argnames=("height", "width"))
def normalize_and_resize(
    frames: UInt8[Array | ndarray, "*F Y X 3"], height: int, width: int
) -> BFloat16[Array, "*F {height} {width} 3"]:
    """Return RGB levels v as `v / 128 - 1`, resized without regard to the aspect ratio.

    Resizing is bicubic (a = -0.5) with antialiasing when shrinking, computed in float32 and rounded once to bfloat16.
    Overshoot is not clamped, so values can leave [-1, 1] slightly. Frames that have the size already are only
    normalised, which is exact. JAX compiles once for each pair of sizes.

    Raises:
        ValueError: `frames` is not uint8 [..., Y, X, 3].
    """
    if frames.dtype != jnp.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
        raise ValueError(f"expected uint8 frames [..., Y, X, 3], got {frames.dtype} {frames.shape}")
    # parity: 128 rather than 127.5, so mid-gray 128 is 0 and every level is exact in bfloat16.
    pixels = jnp.asarray(frames, jnp.float32) / 128 - 1
    if frames.shape[-3:-1] != (height, width):
        shape = (*frames.shape[:-3], height, width, 3)
        pixels = jax.image.resize(pixels, shape, "cubic", antialias=True)
    return pixels.astype(jnp.bfloat16)


def resize_levels(
    frames: UInt8[ndarray, "*F Y X 3"], height: int, width: int
) -> UInt8[ndarray, "*F {height} {width} 3"]:
    """Return RGB levels resized as `normalize_and_resize` does, but rounded to levels; those of that size unchanged."""
    if frames.shape[-3:-1] == (height, width):
        return frames
    return asarray(_resize_levels(frames, height, width))


@partial(jax.jit, static_argnames=("height", "width"))
def _resize_levels(frames: UInt8[Array | ndarray, "*F Y X 3"], height: int, width: int) -> UInt8[Array, "*F _ _ 3"]:
    shape = (*frames.shape[:-3], height, width, 3)
    resized = jax.image.resize(jnp.asarray(frames, jnp.float32), shape, "cubic", antialias=True)
    return jnp.clip(jnp.round(resized), 0, 255).astype(jnp.uint8)


@jax.jit
def to_uint8(frames: Float[Array, "*F Y X 3"]) -> UInt8[Array, "*F Y X 3"]:
    """Return decoded RGB in [-1, 1] as levels 0 to 255; values outside are clamped.

    parity: the levels are truncated, not rounded, so a decoder's exact 1 - 1e-7 becomes 254.
    """
    return (jnp.clip(1 + frames.astype(jnp.float32), 0, 2) / 2 * 255).astype(jnp.uint8)


def as_input_levels(frames: UInt8[ndarray, "*F Y X 3"]) -> UInt8[ndarray, "*F Y X 3"]:
    """Return frames of `to_uint8` on the scale of the levels that `normalize_and_resize` was given.

    parity: the two are no inverses (128 on the way in, 127.5 and truncation on the way out), so that level v comes back
    as v - 1. That would be seen as a flicker where decoded frames stand between given ones.
    """
    return frames + ((frames > 0) & (frames < 255)).astype(uint8)
