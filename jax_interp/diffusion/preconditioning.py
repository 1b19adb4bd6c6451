"""Preconditioning around the network: Karras et al. (2022), table 1, with c_noise = ln(sigma)/4."""

from typing import NamedTuple

import ml_dtypes
import numpy as np

from jax_interp.config import Precision

SIGMA_DATA = 0.5


class Preconditioning(NamedTuple):
    """The preconditioning factors in `x0 = c_skip·x + c_out·F(c_in·x, c_noise)`, as float32 numpy values."""

    c_skip: np.ndarray
    c_out: np.ndarray
    c_in: np.ndarray
    c_noise: np.ndarray


def preconditioning(sigma: float | np.floating | np.ndarray, precision: Precision) -> Preconditioning:
    """Return the four factors at noise level `sigma`, rounded to `precision` after every operation."""
    # parity: upstream casts sigma to the network's dtype first and stays in it.
    dtype = numpy_dtype(precision)
    sigma = np.asarray(sigma).astype(dtype)
    data = np.asarray(SIGMA_DATA, dtype)
    variance = sigma * sigma + data * data
    deviation = np.sqrt(variance)
    factors = data * data / variance, sigma * data / deviation, 1 / deviation, np.asarray(0.25, dtype) * np.log(sigma)
    return Preconditioning(*(np.asarray(factor, dtype).astype(np.float32) for factor in factors))


def numpy_dtype(precision: Precision) -> np.dtype:
    """Return the numpy dtype that `precision` names."""
    return np.dtype(ml_dtypes.bfloat16 if precision == "bfloat16" else np.float32)
