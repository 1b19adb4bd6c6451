"""Clips seen through a window that glides and zooms over them: motion of which the film has little, in its pictures."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

SMALLEST, LARGEST = 1.08, 1.4
"""The smallest and the largest factor by which a window enlarges."""
WANDER = 0.4
"""The standard deviation of a window's way from first to last frame, in units of the room that it has."""


@jax.jit
def glide(key: Array, clips: UInt8[Array, "B F Y X 3"]) -> UInt8[Array, "B F Y X 3"]:
    """Return each clip as seen through a window of its own, whose place and size change evenly over the frames.

    `key` alone decides the windows.
    """
    return jax.vmap(_glide)(jax.random.split(key, len(clips)), clips)


def _glide(key: Array, clip: UInt8[Array, "F Y X 3"]) -> UInt8[Array, "F Y X 3"]:
    sizes, places, ways = jax.random.split(key, 3)
    ends = jax.random.uniform(sizes, (2,), minval=jnp.log(SMALLEST), maxval=jnp.log(LARGEST))
    first = jax.random.uniform(places, (2,))
    last = jnp.clip(first + WANDER * jax.random.normal(ways, (2,)), 0, 1)
    moments = jnp.linspace(0, 1, len(clip))
    zoom = jnp.exp(ends[0] + (ends[1] - ends[0]) * moments)
    place = first + (last - first) * moments[:, None]
    frames = clip.astype(jnp.float32)
    for axis in (0, 1):  # rows, then columns: the two are independent
        frames = jax.vmap(partial(_resample, axis=axis))(frames, zoom, place[:, axis])
    return jnp.round(jnp.clip(frames, 0, 255)).astype(jnp.uint8)


def _resample(
    frame: Float[Array, "Y X 3"], zoom: Float[Array, ""], place: Float[Array, ""], axis: int
) -> Float[Array, "Y X 3"]:
    """Return a part of `frame`, 1/zoom long along `axis`, at full length; `place` is 0 at the start, 1 at the end."""
    length = frame.shape[axis]
    start = place * (length - length / zoom)
    wanted = jnp.clip(start + (jnp.arange(length, dtype=jnp.float32) + 0.5) / zoom - 0.5, 0, length - 1)
    whole = jnp.minimum(jnp.floor(wanted), length - 2)
    before = whole.astype(jnp.int32)
    share = (wanted - whole).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    return jnp.take(frame, before, axis) * (1 - share) + jnp.take(frame, before + 1, axis) * share
