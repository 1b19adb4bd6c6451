"""Averages of weights whose memory grows with the run: the power-function EMA of Karras et al. (2024), section 3.2."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def exponent(rate: float) -> float:
    """Return γ of an average whose width is `rate` times the steps so far: the largest root of equation 127."""
    inverse = rate**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def decay(step: Int[Array, ""], gamma: float) -> Float[Array, ""]:
    """Return the decay of the average at step `step`, counted from 0, where it is 0."""
    count = step.astype(jnp.float32) + 1
    return jnp.power(1 - 1 / count, gamma + 1)


def update_average(average: Any, params: Any, step: Int[Array, ""], gamma: float) -> Any:
    """Update `average` after step `step` of the optimizer, in float32."""
    kept = decay(step, gamma)
    return jax.tree.map(lambda old, new: kept * old + (1 - kept) * new.astype(jnp.float32), average, params)
