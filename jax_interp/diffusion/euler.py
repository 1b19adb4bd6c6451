"""The sampler of Video2World as free functions: Euler's method on the probability-flow ODE, dx/dσ = (x - x0)/σ.

It is the deterministic sampler of Karras et al. (2022), algorithm 1, without its second-order correction. It differs
from the interpolator's in three points: guidance combines outputs of the network instead of predictions; known frames
are let go at the last levels, where they carry more noise than the state; and the state between steps has the network's
dtype. The golden data under tests/data/golden_v2w state the place of every rounding.

```python
x = initial_state(noise, dtype)
for inputs in euler_inputs(euler_sigmas(35), precision):
    state = compose(condition, augmentation_noise, indicator, x, inputs)
    cond, uncond = network(network_input(state, inputs)), ...
    x = euler_step(state, output(cond, uncond, guidance, state, condition, indicator, inputs), inputs)
```
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jax_interp.config import Precision
from jax_interp.diffusion.condition import FIXED_SIGMA
from jax_interp.diffusion.preconditioning import numpy_dtype, preconditioning
from jax_interp.diffusion.schedule import RHO, SIGMA_MAX
from jax_interp.diffusion.settings import check_steps
from jax_interp.types import Latents

SIGMA_MIN = 0.0002
"""The last noise level above zero; a tenth of the interpolator's."""
INITIAL_DEVIATION = float(np.sqrt(SIGMA_MAX**2 + 1))
"""The deviation of the initial state: that of unit data with noise of the first level."""


class EulerInputs(NamedTuple):
    """What changes from step to step: float32 numpy scalars, so that one compiled step serves all."""

    c_in: np.ndarray
    """The scale of the network's input."""
    c_noise: np.ndarray
    """ln(sigma)/4."""
    c_skip: np.ndarray
    c_out: np.ndarray
    sigma: np.ndarray
    difference: np.ndarray
    """The next level minus this one, which is negative."""
    known_c_in: np.ndarray
    """c_in computed in the network's dtype, as are the next two: they are for the known frames."""
    known_c_skip: np.ndarray
    known_c_out: np.ndarray
    keeps_known: np.ndarray
    """1 while known frames are put into the state, 0 where their own noise is as strong as the state's."""


def euler_sigmas(num_steps: int) -> Float[np.ndarray, " steps_plus_1"]:
    """Return `num_steps` noise levels from 80 to 0.0002, and 0 behind them, float32; a single level is 80.

    Source: Karras et al. (2022), equation 5. The levels are those of diffusers' EDMEulerScheduler, which computes in
    float32, but for the last bit of a few.
    """
    check_steps(num_steps)
    low, high = SIGMA_MIN ** (1 / RHO), SIGMA_MAX ** (1 / RHO)
    ramp = np.linspace(0, 1, num_steps, dtype=np.float32)
    roots = np.float32(high) + ramp * np.float32(low - high)
    return np.append(roots.astype(np.float64) ** RHO, 0).astype(np.float32)


def euler_inputs(sigmas: Float[np.ndarray, " steps_plus_1"], precision: Precision) -> list[EulerInputs]:
    """Return the inputs of every step; `precision` is the network's."""
    return [_inputs(sigma, following, precision) for sigma, following in pairwise(sigmas)]


def _inputs(sigma: np.float32, following: np.float32, precision: Precision) -> EulerInputs:
    exact, rounded = preconditioning(sigma, "float32"), preconditioning(sigma, precision)
    # parity: whether known frames are kept is decided by the level in the network's dtype.
    keeps = np.float32(FIXED_SIGMA) < sigma.astype(numpy_dtype(precision)).astype(np.float32)
    return EulerInputs(
        c_in=exact.c_in,
        c_noise=np.asarray(np.float32(0.25) * np.float32(np.log(np.float64(sigma)))),
        c_skip=exact.c_skip,
        c_out=exact.c_out,
        sigma=np.asarray(sigma),
        difference=np.asarray(following - sigma),
        known_c_in=rounded.c_in,
        known_c_skip=rounded.c_skip,
        known_c_out=rounded.c_out,
        keeps_known=np.asarray(keeps, np.float32),
    )


def first_frames_indicator(num_latent_frames: int, num_known: int) -> Float[np.ndarray, "T 1 1 1"]:
    """Return the mask of known latent frames: 1 on the first `num_known`, 0 behind them."""
    return (np.arange(num_latent_frames) < num_known).astype(np.float32).reshape(-1, 1, 1, 1)


def initial_state(noise: Latents, dtype: DTypeLike) -> Latents:
    """Return the state before the first step: unit noise, in `dtype`, times the initial deviation."""
    return (noise.astype(dtype).astype(jnp.float32) * np.float32(INITIAL_DEVIATION)).astype(dtype)


def compose(
    condition: Latents, noise: Latents, indicator: Float[Array, "T 1 1 1"], x: Latents, inputs: EulerInputs
) -> Latents:
    """Return the state with its known frames replaced by `(z + 0.001·n)·c_in(0.001)/c_in(sigma)`, in the dtype of `x`.

    `condition` are the clean latents z of the frames where `indicator` is 1, `noise` is n, float32.
    """
    known = indicator * jnp.asarray(inputs.keeps_known)
    scale = jnp.asarray(preconditioning(FIXED_SIGMA, "float32").c_in)
    noisy = (condition.astype(jnp.float32) + np.float32(FIXED_SIGMA) * noise) * scale
    noisy = _quotient(noisy, jnp.asarray(inputs.known_c_in))
    return jnp.where(known.astype(bool), noisy, x.astype(jnp.float32)).astype(x.dtype)


def network_input(state: Latents, inputs: EulerInputs) -> Latents:
    """Return c_in times the state, in its dtype."""
    return (state.astype(jnp.float32) * jnp.asarray(inputs.c_in)).astype(state.dtype)


def guided_output(
    outputs: Sequence[Latents],
    guidance: Float[Array, ""],
    state: Latents,
    condition: Latents,
    indicator: Float[Array, "T 1 1 1"],
    inputs: EulerInputs,
) -> Latents:
    """Return the network's guided output F, in the dtype of the state.

    `outputs` are those of `branches(guidance)`; two combine as `cond + g·(cond - uncond)`. On known frames, as long as
    they are kept, F becomes `(z - c_skip·x)/c_out`, whose prediction of clean latents is z.
    """
    dtype = state.dtype
    output = outputs[0]
    if len(outputs) == 2:
        cond, uncond = outputs
        output = cond + (guidance.astype(jnp.float32) * (cond - uncond).astype(jnp.float32)).astype(dtype)
    c_skip, c_out = (jnp.asarray(factor).astype(dtype) for factor in (inputs.known_c_skip, inputs.known_c_out))
    known = indicator * jnp.asarray(inputs.keeps_known)
    return jnp.where(known.astype(bool), _quotient(condition.astype(dtype) - c_skip * state, c_out), output)


def euler_step(state: Latents, output: Latents, inputs: EulerInputs) -> Latents:
    """Return the state at the next level, in the dtype of `state`; at the last one it is the prediction x0."""
    x = state.astype(jnp.float32)
    # parity: the second product is one of the network's dtype.
    x0 = jnp.asarray(inputs.c_skip) * x + (jnp.asarray(inputs.c_out).astype(output.dtype) * output).astype(jnp.float32)
    derivative = _quotient(x - x0, jnp.asarray(inputs.sigma))
    return (x + derivative * jnp.asarray(inputs.difference)).astype(state.dtype)


def _quotient(x: Latents, divisor: Float[Array, ""]) -> Latents:
    """Return `x / divisor`; XLA would multiply by a scalar's rounded reciprocal, which at sigma 80 costs digits."""
    return x / jax.lax.optimization_barrier(jnp.broadcast_to(divisor, x.shape))
