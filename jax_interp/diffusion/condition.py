"""Conditioning on the known first and last latent frames: they are masked in, with a little noise of their own."""

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_interp.config import Precision
from jax_interp.diffusion.branches import Branch
from jax_interp.diffusion.preconditioning import numpy_dtype, preconditioning
from jax_interp.diffusion.settings import ConditionNoise, NoiseSource
from jax_interp.errors import UsageError
from jax_interp.types import Latents

FIXED_SIGMA = 0.001
RANDOM_LOG_SIGMA = NormalDist(-3, 2)
"""The distribution of ln(sigma) of the random condition noise."""


class Augmentation(NamedTuple):
    """The noise that one network call puts on the condition frames, for every pair of the batch."""

    sigma: Float[np.ndarray, " B"]
    c_in: Float[np.ndarray, " B"]
    """The input scale c_in at `sigma`."""
    noise: Float[np.ndarray | Array, "B T H W C"]


def frame_indicator(num_latent_frames: int) -> Float[np.ndarray, "T 1 1 1"]:
    """Return the mask of known latent frames: 1 on the first and the last one, 0 between."""
    indicator = np.zeros((num_latent_frames, 1, 1, 1), np.float32)
    indicator[[0, -1]] = 1
    return indicator


def initial_noise(seed: int, shape: tuple[int, int, int, int]) -> Float[np.ndarray, "T H W C"]:
    """Draw unit noise for latents of `shape` (T, H, W, C) as upstream does, with numpy's legacy generator."""
    frames, height, width, channels = shape
    try:
        generator = np.random.RandomState(seed)
    except ValueError as error:
        raise UsageError(f"--seed is {seed}; expected a whole number from 0 to 4294967295") from error
    # parity: drawn channels first, so that a seed gives upstream's noise.
    drawn = generator.standard_normal((1, channels, frames, height, width)).astype(np.float32)
    return np.moveaxis(drawn[0], 0, -1)


def augmenter(
    source: ConditionNoise, *, noise: Array, seed: int, pairs: Sequence[int], num_calls: int, precision: Precision
) -> Callable[[int, Branch], Augmentation]:
    """Return a function from sampler call (0 .. num_calls - 1) and branch to the augmentation of a batch.

    `noise` [T, H, W, C] is the initial noise, `pairs` the numbers of the batch's pairs within the whole run.
    """
    if source == "fixed":
        # parity: here upstream's noise is float32 even in a bfloat16 run, so the frames are too.
        shared = jnp.broadcast_to(noise, (len(pairs), *noise.shape))
        fixed = _augmentation([FIXED_SIGMA] * len(pairs), shared, precision)
        return lambda call, branch: fixed
    draw = seeded_source(seed, noise.shape) if source == "random" else source

    def drawn(call: int, branch: Branch) -> Augmentation:
        draws = [draw(len(Branch) * (pair * num_calls + call) + branch.value) for pair in pairs]
        stacked = np.stack([np.asarray(drawn, np.float32) for _, drawn in draws])
        if stacked.shape[1:] != noise.shape:
            raise UsageError(f"condition_noise returned noise of shape {stacked.shape[1:]}; expected {noise.shape}")
        return _augmentation([sigma for sigma, _ in draws], stacked.astype(numpy_dtype(precision)), precision)

    return drawn


def seeded_source(seed: int, shape: tuple[int, ...]) -> NoiseSource:
    """Return upstream's random source; every call has its own generator, so it does not depend on other calls."""

    def draw(call: int) -> tuple[float, np.ndarray]:
        generator = np.random.default_rng([seed, call])
        sigma = np.exp(generator.normal(RANDOM_LOG_SIGMA.mean, RANDOM_LOG_SIGMA.stdev))
        return float(sigma), generator.standard_normal(shape, np.float32)

    return draw


def _augmentation(sigma: list[float], noise: np.ndarray | Array, precision: Precision) -> Augmentation:
    rounded = np.asarray(sigma).astype(numpy_dtype(precision)).astype(np.float32)
    return Augmentation(rounded, preconditioning(rounded, precision).c_in, noise)


def noisy_condition(latents: Latents, augmentation: Augmentation, c_in: Array) -> Latents:
    """Return the state's values on the condition frames at one call, `(z + s·n)·c_in(s)/c_in(sigma)`, in float32.

    `latents` are the clean ones, `c_in` is the float32 input scale at the sampler's noise level.
    """
    dtype = augmentation.noise.dtype
    sigma, c_in_sigma = (
        jnp.asarray(factor).astype(dtype)[:, None, None, None, None]
        for factor in (augmentation.sigma, augmentation.c_in)
    )
    noisy = (latents.astype(dtype) + sigma * augmentation.noise) * c_in_sigma
    return noisy.astype(jnp.float32) / c_in
