"""Moving scale from the input channels of a product into its weight, before both are rounded to 8 bits (SmoothQuant).

Source: Xiao et al. (2023), "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models",
equation 4. An input channel is multiplied by a factor, and its row of the weight divided by it. Here factors are powers
of two, so that both are exact, and the strength with which scale is moved is chosen for every product by its error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_interp.nn.quantization import LARGEST, SMALLEST_RANGE, quantize_tokens
from jax_interp.pipeline.calibration.compiling import without_trials

STRENGTHS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
"""The strengths that are tried beside 0, which stands for no factors: at 1 all channels of the input become equally
large, at 1/2 a channel and its row of the weight."""
MIN_EXPONENT = -15
"""Factors are from 2 to the minus 15 to 1."""
LARGEST_RATIO = 1e15
"""The largest ratio of channels that a report can state."""
GAIN = 0.8
"""What an error must be of that without factors for factors to be used: less of a gain may be one on the sample alone.
"""


@dataclass(frozen=True)
class Smoothed:
    """The factors that were chosen for a product, and errors of what it gives, relative L2."""

    factors: Float[np.ndarray, " I"]
    strength: float
    plain: float
    """The error in 8 bits without factors."""
    error: float
    """The error in 8 bits with them."""
    bfloat16: float
    """The error of the product in bfloat16."""


def choose_factors(
    rows: Float[Array | np.ndarray, "R I"],
    weight: Float[Array | np.ndarray, "I O"],
    largest: Float[np.ndarray, " I"],
) -> Smoothed:
    """Choose the factors of a product's input channels by its error on `rows`, a sample of its float32 inputs.

    `largest` are the largest magnitudes of the channels, of more inputs than the sample has. Errors are measured on the
    device, from which only vectors come back.
    """
    rows, weight = jnp.asarray(rows), jnp.asarray(weight)
    of_weight = jax.device_get(_compiled(_row_magnitudes)(weight))
    candidates = [np.ones_like(largest)] + [smoothing_factors(largest, of_weight, each) for each in STRENGTHS]
    with jax.default_matmul_precision("highest"):
        exact, halves = _compiled(_exact_and_halves)(rows, weight)
        errors = [float(_compiled(_int8_error)(exact, rows, weight, factors)) for factors in candidates]
    best = int(np.argmin(errors))
    if errors[best] >= GAIN * errors[0]:
        best = 0
    return Smoothed(candidates[best], (0.0, *STRENGTHS)[best], errors[0], errors[best], float(halves))


def smoothing_factors(
    largest: Float[np.ndarray, " I"], of_weight: Float[np.ndarray, " I"], strength: float
) -> Float[np.ndarray, " I"]:
    """Return factors, powers of two, for channels and rows of a weight with these largest magnitudes.

    They are 1 for half of the channels, since only their ratios matter, and smaller for the larger ones. None is above
    1: a channel that was small for the calibration need not be so elsewhere. It is 1 for zeros too, in channel or row.
    """
    used = (largest > 0) & (of_weight > 0)
    if not used.any():
        return np.ones_like(largest)
    exponents = np.zeros_like(largest)
    exponents[used] = (1 - strength) * np.log2(of_weight[used]) - strength * np.log2(largest[used])
    exponents[used] = np.rint(exponents[used] - np.median(exponents[used]))
    return np.exp2(np.clip(exponents, MIN_EXPONENT, 0)).astype(largest.dtype)


def largest_over_median(magnitudes: Sequence[float] | np.ndarray) -> float:
    """Return the largest of `magnitudes` over the median of those above zero; 0 if there are none.

    It is at most `LARGEST_RATIO`.
    """
    used = np.asarray(magnitudes, np.float64)
    used = used[used > 0]
    return float(min(used.max() / np.median(used), LARGEST_RATIO)) if used.size else 0.0


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` as a program, compiled once for every shape of a product."""
    return jax.jit(function, compiler_options={"xla_allow_excess_precision": False, **without_trials()})


def _row_magnitudes(weight: Array) -> Array:
    return jnp.abs(weight).max(1)


def _int8_error(exact: Array, rows: Array, weight: Array, factors: Array) -> Array:
    """Return the error of the product in 8 bits, whose result is rounded to bfloat16."""
    tokens = quantize_tokens(rows, factors=factors)
    changed = weight / factors[:, None]
    scale = jnp.maximum(jnp.abs(changed).max(0), SMALLEST_RANGE) / LARGEST
    product = (tokens.values.astype(jnp.float32) @ jnp.round(changed / scale)) * tokens.scale[:, None] * scale
    return _relative(product.astype(jnp.bfloat16), exact)


def _exact_and_halves(rows: Array, weight: Array) -> tuple[Array, Array]:
    """Return the product, and the error that it has in bfloat16."""
    exact = rows @ weight
    halves = (each.astype(jnp.bfloat16).astype(jnp.float32) for each in (rows, weight))
    return exact, _relative(jnp.matmul(*halves).astype(jnp.bfloat16), exact)


def _relative(ours: Array, exact: Array) -> Array:
    """Return the relative L2 error; 0 where the exact values are zeros, NaN where they are not finite."""
    size = jnp.linalg.norm(exact)
    error = jnp.linalg.norm(ours.astype(jnp.float32) - exact) / jnp.maximum(size, 1e-30)
    return jnp.where(size == 0, 0, error)
