"""A fixed rotation of neighbouring channels, which spreads a channel that is much larger than the others over them.

Inputs and weight of a product are rotated alike, and so it stays what it was in exact arithmetic. What is rounded to
integers with a common scale after it loses less, because no single channel decides that scale (Ashkboos et al., 2024,
"QuaRot"). The matrix is a Hadamard matrix over the square root of its size: all of its entries have the same magnitude.
"""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LARGEST_GROUP = 128
"""The largest number of channels that are rotated together: the width of a head of the published networks."""


def group_width(channels: int, splits: int = 1) -> int:
    """Return how many neighbouring channels are rotated together: a power of two up to 128 that divides `channels`.

    A mesh may give each device an equal share of the channels, whose number divides `splits`, for example the number of
    attention heads. The groups are whole in every such share, so that they do not depend on the mesh.
    """
    whole = channels // math.gcd(channels, splits)
    return math.gcd(whole, LARGEST_GROUP)


@cache
def hadamard(size: int) -> Float[np.ndarray, "n n"]:
    """Return a Hadamard matrix of a power of two, with entries of 1 and -1; its rows are orthogonal, of length √n.

    It is Sylvester's with the signs of the Rudin-Shapiro sequence on its rows. Without these the mean of a group would
    become a single channel, which is large behind functions like GELU, whose values are mostly of one sign.
    """
    index = np.arange(size)
    crossings = np.bitwise_count(index[:, None] & index) + np.bitwise_count(index & index >> 1)[:, None]
    matrix = np.where(crossings % 2, np.float32(-1), np.float32(1))
    matrix.setflags(write=False)
    return matrix


def rotate_channels(x: Float[Array, "*tokens K"], group: int) -> Float[Array, "*tokens K"]:
    """Rotate every `group` neighbouring channels of `x`, whose number they divide; sums and result are float32."""
    signs = jnp.asarray(hadamard(group)).astype(x.dtype)
    sums = jnp.einsum(
        "...i,ij->...j",
        x.reshape(*x.shape[:-1], -1, group),
        signs,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    return (sums * np.float32(group**-0.5)).reshape(x.shape)


def rotate_rows(rows: Float[np.ndarray, "O I"], group: int) -> Float[np.ndarray, "O I"]:
    """Rotate the input channels of a float32 weight stored [out, in], as `rotate_channels` does those of tokens."""
    return (rows.reshape(-1, group) @ hadamard(group) * np.float32(group**-0.5)).reshape(rows.shape)
