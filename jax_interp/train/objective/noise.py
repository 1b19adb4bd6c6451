"""The random draws of a training step: noise levels, noise, noise on the known frames, text dropout."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_interp.diffusion.condition import frame_indicator
from jax_interp.train.settings import LogNormal, NoiseSettings
from jax_interp.types import Latents


class Draws(NamedTuple):
    """The random draws of one step, float32."""

    sigma: Float[Array, " B"]
    """The noise level in latent standard deviations times 2, as the sampler's."""
    noise: Latents
    """The noise, of unit variance."""
    augment_sigma: Float[Array, " B"]
    """The noise level of the known frames."""
    augment_noise: Latents
    text_kept: Float[Array, " B"]
    """1 where a sample keeps its text, 0 where all its rows become zero."""
    indicator: Float[Array, "B T 1 1 1"]
    """1 on known latent frames."""


def make_draws(key: jax.Array, shape: tuple[int, ...], settings: NoiseSettings) -> Draws:
    """Make the draws for latents of `shape` [B, T, H, W, C]; they do not depend on how a batch is sharded."""
    batch, frames = shape[:2]
    sigma, noise, augment_sigma, augment_noise, kept, known = jax.random.split(key, 6)
    return Draws(
        sigma=log_normal(jax.random.normal(sigma, (batch,)), settings.sigma),
        noise=jax.random.normal(noise, shape),
        augment_sigma=log_normal(jax.random.normal(augment_sigma, (batch,)), settings.augment_sigma),
        augment_noise=jax.random.normal(augment_noise, shape),
        text_kept=jax.random.bernoulli(kept, 1 - settings.text_dropout, (batch,)).astype(jnp.float32),
        indicator=jnp.broadcast_to(_known_frames(known, frames, settings), (batch, frames, 1, 1, 1)),
    )


def log_normal(normal: Float[Array, " B"], distribution: LogNormal) -> Float[Array, " B"]:
    """Return values of `distribution` from values of a standard normal distribution."""
    return distribution.multiplier * jnp.exp(distribution.mean + distribution.deviation * normal)


def first_frames(count: int | Array, num_latent_frames: int) -> Float[Array, "T 1 1 1"]:
    """Return the mask of the first `count` latent frames: 1 on them, 0 on the others."""
    return (jnp.arange(num_latent_frames) < count).astype(jnp.float32)[:, None, None, None]


def _known_frames(key: jax.Array, frames: int, settings: NoiseSettings) -> Float[Array, "T 1 1 1"]:
    if settings.known == "ends":
        return jnp.asarray(frame_indicator(frames))
    return first_frames(jax.random.randint(key, (), 0, settings.max_known + 1), frames)
