"""The noise schedule of a sampling run."""

import numpy as np
from jaxtyping import Float

from jax_interp.diffusion.settings import check_steps

SIGMA_MAX = 80.0
SIGMA_MIN = 0.002
RHO = 7.0


def sigmas(num_steps: int) -> Float[np.ndarray, " steps_plus_1"]:
    """Return noise levels from 80 to 0.002, in latent standard deviations times 2 (`SIGMA_DATA` is 0.5), float64.

    Source: Karras et al. (2022), equation 5, with the last level at sigma_min instead of 0.
    """
    check_steps(num_steps)
    ramp = np.arange(num_steps + 1, dtype=np.float64) / num_steps
    low, high = SIGMA_MIN ** (1 / RHO), SIGMA_MAX ** (1 / RHO)
    return (high + ramp * (low - high)) ** RHO
