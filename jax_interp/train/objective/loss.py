"""The denoising loss of Karras et al. (2022) with known frames, and its weighting by a learned log-variance."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_interp.diffusion.preconditioning import SIGMA_DATA
from jax_interp.train.objective.noise import Draws
from jax_interp.types import Latents

Predict = Callable[[Latents, Float[Array, " B"]], Latents]
"""The network F as a function of scaled latents and `c_noise`.

`lambda scaled, c_noise: jnp.zeros_like(scaled)` is an untrained one.
"""


class NetworkInputs(NamedTuple):
    """The inputs of the network in one step."""

    state: Latents
    """The noisy latents, with the known frames at their own noise level."""
    scaled: Latents
    """`c_in` times the state, which the network reads."""
    c_noise: Float[Array, " B"]


class LossTerms(NamedTuple):
    """The loss of each sample and latent frame, before the log-variance weighs it."""

    squared: Float[Array, "B T"]
    """Mean squared error of the predicted clean latents; 0 on known frames."""
    weighted: Float[Array, "B T"]
    """The same error times the weight of the noise level."""


def make_network_inputs(latents: Latents, draws: Draws) -> NetworkInputs:
    """Add noise to clean `latents` (model scale) and scale them to the network's inputs, float32."""
    c_in = _rows(1 / _deviation(draws.sigma))
    augment_sigma = _rows(draws.augment_sigma)
    noisy = latents + _rows(draws.sigma) * draws.noise
    # A known frame is scaled so that the network, which reads c_in times the state, sees it at its own noise level.
    known = (latents + augment_sigma * draws.augment_noise) / _deviation(augment_sigma) / c_in
    state = jnp.where(draws.indicator > 0, known, noisy)
    return NetworkInputs(state, c_in * state, jnp.log(draws.sigma) / 4)


def denoised_latents(output: Latents, noisy: NetworkInputs, latents: Latents, draws: Draws) -> Latents:
    """Return the clean latents that the network's `output` predicts; known frames are the true ones."""
    sigma = _rows(draws.sigma)
    variance = sigma**2 + SIGMA_DATA**2
    c_skip, c_out = SIGMA_DATA**2 / variance, sigma * SIGMA_DATA / jnp.sqrt(variance)
    denoised = c_skip * noisy.state + c_out * output.astype(jnp.float32)
    return jnp.where(draws.indicator > 0, latents, denoised)


def loss_terms(predictions: Latents, latents: Latents, sigma: Float[Array, " B"]) -> LossTerms:
    """Return the errors of predicted clean latents, averaged over space and channels."""
    squared = jnp.square(latents - predictions).mean((2, 3, 4))
    return LossTerms(squared, squared * loss_weight(sigma)[:, None])


def loss_weight(sigma: Float[Array, " B"]) -> Float[Array, " B"]:
    """Return 1 / c_out², with which the errors of an untrained network have one size at every noise level."""
    return (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2


def total_loss(
    terms: LossTerms,
    uncertainty: Float[Array, " B"] | None,
    reduce: Literal["mean", "sum"] = "mean",
    elements_a_frame: int = 1,
) -> Float[Array, ""]:
    """Return the training loss: the mean of `e exp(-u) + u` over all elements, the zeros of known frames included.

    Without `uncertainty` (u, one value a sample) it is the mean of `e`. With `reduce="sum"`, which upstream has but
    does not use, the elements of a sample (`elements_a_frame` times its frames) are added up instead.
    """
    errors = terms.weighted
    if uncertainty is not None:
        errors = errors * jnp.exp(-uncertainty)[:, None] + uncertainty[:, None]
    if reduce == "sum":
        return elements_a_frame * errors.sum(1).mean()
    return errors.mean()


def _deviation(sigma: Array) -> Array:
    return jnp.sqrt(sigma**2 + SIGMA_DATA**2)


def _rows(values: Float[Array, " B"]) -> Float[Array, "B 1 1 1 1"]:
    return values[:, None, None, None, None]
