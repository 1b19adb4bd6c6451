"""Checks of the arrays that a program gives to the single steps of a pipeline, before a network runs on them.

Without them a wrong shape fails somewhere in a network, and values that are no numbers become frames.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_interp.config import DiTConfig
from jax_interp.errors import UsageError


def check_latents(name: str, shape: tuple[int, ...], dit: DiTConfig) -> None:
    """Raise `UsageError` unless `shape` is that of a clip's latents, [T, H, W, C]; the tokenizer takes any T, H, W."""
    if len(shape) != 4 or shape[-1] != dit.latent_channels or 0 in shape:
        raise UsageError(f"{name} have shape {shape}; expected [frames, height, width, {dit.latent_channels}]")


def check_sampled_latents(name: str, shape: tuple[int, ...], dit: DiTConfig) -> None:
    """Raise `UsageError` unless the transformer can sample latents of `shape`, [T, H, W, C]."""
    check_latents(name, shape, dit)
    patch = dit.patch_size
    frames, rows, columns = dit.grid[0], dit.grid[1] * patch, dit.grid[2] * patch
    height, width = shape[1:3]
    if shape[0] > frames or height % patch or height > rows or width % patch or width > columns:
        raise UsageError(
            f"{name} have shape {shape}; expected at most {frames} frames, and a height up to {rows} and a width up to"
            f" {columns}, multiples of {patch}"
        )


def check_numbers(name: str, values: Array | np.ndarray) -> None:
    """Raise `UsageError` if any of `values` is infinite or not a number."""
    if not bool(jnp.isfinite(values).all()):
        raise UsageError(f"{name}: some values are not finite numbers")


def as_text_rows(name: str, text: Any) -> Float[np.ndarray, "n S D"] | None:
    """Return text embeddings [S, D] or [n, S, D] as float32 with the axis of the batch; None stays None.

    Raises:
        UsageError: some values are not finite numbers.
    """
    if text is None:
        return None
    rows = np.asarray(text, np.float32)
    check_numbers(name, rows)
    return rows[None] if rows.ndim == 2 else rows


def as_noise(name: str, noise: Any, shape: tuple[int, ...]) -> Float[np.ndarray, "1 T H W C"] | None:
    """Return the noise of latents of `shape` as float32 with the axis of the batch; None stays None.

    Raises:
        UsageError: it has another shape, or some values are not finite numbers.
    """
    if noise is None:
        return None
    values = np.asarray(noise, np.float32)
    if values.shape != shape:
        raise UsageError(f"{name} has shape {values.shape}; expected {shape}")
    check_numbers(name, values)
    return values[None]
