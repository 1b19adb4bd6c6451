"""Rotary position embeddings over a (time, height, width) grid, and their application to queries and keys."""

from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jaxtyping import Array, Float

from jax_interp.config import Precision

BASE = 10000.0
BASE_FPS = 24.0


def split_head_width(head_width: int) -> tuple[int, int, int]:
    """Return how many of a head's components rotate with time, height and width."""
    spatial = head_width // 6 * 2
    return head_width - 2 * spatial, spatial, spatial


def rotary_angles(
    grid: tuple[int, int, int],
    head_width: int,
    *,
    fps: float,
    ratio: tuple[float, float, float],
    precision: Precision,
) -> Float[np.ndarray, "L half_K"]:
    """Return the angle in radians of every token of a (T, H, W) patch grid, float32; columns are [t | h | w].

    Tokens are in row-major order.

    `ratio` extrapolates the base along each axis. With `precision="bfloat16"` every operation rounds.
    """
    # parity: upstream casts the module that builds this table to bfloat16, buffers included, so its bf16 network
    # was run (and is compared) with angles up to 0.15 rad off.
    dtype: Any = ml_dtypes.bfloat16 if precision == "bfloat16" else np.float32
    positions = [np.arange(size).astype(dtype) for size in grid]
    positions[0] = positions[0] / np.asarray(fps, dtype) * np.asarray(BASE_FPS, dtype)
    tables = [
        np.outer(position, _frequencies(width, axis_ratio, dtype)).astype(np.float32)
        for position, width, axis_ratio in zip(positions, split_head_width(head_width), ratio, strict=True)
    ]
    per_axis = [
        np.broadcast_to(np.expand_dims(table, [axis for axis in range(3) if axis != i]), (*grid, table.shape[1]))
        for i, table in enumerate(tables)
    ]
    return np.concatenate(per_axis, axis=-1).reshape(-1, head_width // 2)


def _frequencies(width: int, ratio: float, dtype: Any) -> np.ndarray:
    base = np.asarray(BASE * ratio ** (width / (width - 2)), dtype)
    exponents = (np.arange(0, width, 2, dtype=np.float32) / np.float32(width)).astype(dtype)
    return np.asarray(1, dtype) / np.power(base, exponents).astype(dtype)


def make_rotation(angles: Float[Array, "*B L half_K"]) -> Float[Array, "2 *B L half_K"]:
    """Return the rotation by `angles`: their cosine and sine, which all heads of all layers share."""
    return jnp.stack([jnp.cos(angles), jnp.sin(angles)])


def apply_rotary(x: Float[Array, "B L N K"], rotation: Float[Array, "2 *B L half_K"]) -> Float[Array, "B L N K"]:
    """Rotate components i and i + K/2 of every head by the angle of `rotation[..., i]`, in float32.

    `rotation` is a result of `make_rotation`: `[2, L, K/2]`, or `[2, B, L, K/2]` if the rows of a batch have positions
    of their own. Source: Su et al. (2021), "RoFormer".
    """
    cos, sin = rotation[..., None, :]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
