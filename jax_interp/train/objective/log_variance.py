"""The learned uncertainty of the loss at every noise level (Karras et al. 2024, "Analyzing and Improving the Training
Dynamics of Diffusion Models", appendix B): a linear layer on random Fourier features of the noise level.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_interp.types import Params

NUM_FEATURES = 128


def initial_log_variance(key: jax.Array) -> tuple[Params, Params]:
    """Return (trained, fixed) parameters that start without uncertainty: u is 0 at every noise level."""
    frequencies, phases = jax.random.split(key)
    fixed = {
        "frequencies": 2 * math.pi * jax.random.normal(frequencies, (NUM_FEATURES,)),
        "phases": 2 * math.pi * jax.random.uniform(phases, (NUM_FEATURES,)),
    }
    return {"weights": jnp.zeros((NUM_FEATURES,))}, fixed


def log_variance(trained: Params, fixed: Params, c_noise: Float[Array, " B"]) -> Float[Array, " B"]:
    """Return the log-variance u at noise levels `c_noise`, that is ln(sigma)/4."""
    features = math.sqrt(2) * jnp.cos(c_noise[:, None] * fixed["frequencies"] + fixed["phases"])
    return features @ trained["weights"]
