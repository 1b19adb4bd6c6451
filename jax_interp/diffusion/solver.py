"""The second-order Adams-Bashforth solver of the denoising ODE in its exponential (RES) form.

With s = -ln sigma the ODE reads dx/ds = x0(x, s) - x; a step integrates the linear part exactly and extrapolates x0
from its last two values (Zhang et al. 2023, "Improved Order Analysis and Design of Exponential Integrator").
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float


class StepCoefficients(NamedTuple):
    """The coefficients of a step, `x ← state·x + current·x0_i + previous·x0_{i-1}`: float32, computed in float64."""

    state: np.floating
    current: np.floating
    previous: np.floating


def step_coefficients(sigmas: Float[np.ndarray, " steps_plus_1"]) -> list[StepCoefficients]:
    """Return the coefficients of every step; the first one is a step of Euler's method."""
    first = sigmas[1] / sigmas[0]
    coefficients = [(first, 1 - first, 0.0)]
    log_sigmas = -np.log(sigmas)
    for i in range(1, len(sigmas) - 1):
        step = log_sigmas[i + 1] - log_sigmas[i]
        back = (log_sigmas[i - 1] - log_sigmas[i]) / step
        phi1 = np.expm1(-step) / -step
        phi2 = (phi1 - 1) / -step
        coefficients.append((np.exp(-step), step * (phi1 - phi2 / back), step * phi2 / back))
    return [StepCoefficients(*(np.float32(value) for value in entry)) for entry in coefficients]


def advance(x: Array, x0: Array, previous_x0: Array, coefficients: StepCoefficients) -> Array:
    """Return the state at the next noise level; all arrays are float32 of one shape."""
    state, current, previous = (jax.numpy.asarray(value) for value in coefficients)
    return state * x + current * x0 + previous * previous_x0
