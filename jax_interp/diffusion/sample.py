"""The sampling loop, and what surrounds the network in each of its calls, as free functions."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_interp.config import Precision
from jax_interp.diffusion.condition import Augmentation, noisy_condition
from jax_interp.diffusion.guidance import combine
from jax_interp.diffusion.preconditioning import SIGMA_DATA, Preconditioning, preconditioning
from jax_interp.diffusion.solver import StepCoefficients, step_coefficients
from jax_interp.types import Latents


class CallInputs(NamedTuple):
    """The inputs that change between sampler calls; they are arrays, so that one compiled step serves all calls."""

    preconditioning: Preconditioning
    state_c_in: np.ndarray
    """c_in in float32, whatever the network's dtype: the scale of the state that the condition frames are put into."""
    coefficients: StepCoefficients
    augmentations: Sequence[Augmentation]
    """The augmentation of each evaluated branch."""


def call_inputs(sigma: float, coefficients: StepCoefficients, augmentations: Any, precision: Precision) -> CallInputs:
    """Return the inputs of the call at noise level `sigma`."""
    sigma32 = np.float32(sigma)
    return CallInputs(
        preconditioning(sigma32, precision), preconditioning(sigma32, "float32").c_in, coefficients, augmentations
    )


class NetworkCall(NamedTuple):
    """One evaluation of the network for all branches of all pairs, in the order (branch, pair)."""

    scaled: Latents
    """The network's input, in its dtype."""
    c_noise: Float[Array, " B"]
    states: Latents
    """The noisy states, of which `scaled` is c_in times."""


def prepare(condition: Latents, indicator: Float[Array, "T 1 1 1"], x: Latents, inputs: CallInputs) -> NetworkCall:
    """Prepare the network's inputs for the float32 state `x`.

    `condition` are the clean latents of the frames where `indicator` is 1, in the network's dtype.
    """
    dtype = condition.dtype
    known = indicator.astype(bool)
    states = jnp.concatenate(
        [
            jnp.where(known, noisy_condition(condition, augmentation, jnp.asarray(inputs.state_c_in)), x).astype(dtype)
            for augmentation in inputs.augmentations
        ]
    )
    c_in, c_noise = (
        jnp.asarray(factor).astype(dtype) for factor in (inputs.preconditioning.c_in, inputs.preconditioning.c_noise)
    )
    return NetworkCall(c_in * states, jnp.broadcast_to(c_noise, states.shape[:1]), states)


def conclude(
    output: Float[Array, "branches_B T H W C"],
    states: Float[Array, "branches_B T H W C"],
    condition: Latents,
    indicator: Float[Array, "T 1 1 1"],
    guidance: Array,
    inputs: CallInputs,
) -> Latents:
    """Return the guided prediction x0 of clean latents from the network's `output` for a `NetworkCall`, float32."""
    dtype = condition.dtype
    c_skip, c_out = (
        jnp.asarray(factor).astype(dtype) for factor in (inputs.preconditioning.c_skip, inputs.preconditioning.c_out)
    )
    predictions = c_skip * states + c_out * output
    known = indicator.astype(bool)
    branches = jnp.split(predictions, len(inputs.augmentations))
    clean = [jnp.where(known, condition, prediction) for prediction in branches]
    return combine(clean, guidance).astype(jnp.float32)


Step: TypeAlias = Callable[[Latents, Latents, CallInputs], tuple[Latents, Latents]]
"""A step of the sampler: a function from (state, previous x0, inputs) to (next state, x0).

`lambda x, x0, inputs: (advance(x, denoise(x, inputs), x0, inputs.coefficients), denoise(x, inputs))` is one.
"""


def sample(
    run_step: Step, noise: Latents, sigmas: Float[np.ndarray, " steps_plus_1"], calls: Iterable[CallInputs]
) -> Latents:
    """Integrate the denoising ODE from `noise`·sigma_0 to the last level and return the x0 predicted there, float32.

    `run_step` is made of `prepare`, the network, `conclude` and `solver.advance`. `calls` has one entry for each noise
    level and may be a generator, which can then show progress or stop.
    """
    x = noise * np.float32(sigmas[0])
    x0 = jnp.zeros_like(x)
    for inputs in calls:
        x, x0 = run_step(x, x0, inputs)
    return x0


LAST_CALL = StepCoefficients(np.float32(1), np.float32(0), np.float32(0))
"""The coefficients of the call at the last level, which only predicts: its state is not used."""


def call_coefficients(sigmas: Float[np.ndarray, " steps_plus_1"]) -> list[StepCoefficients]:
    """Return the solver coefficients of every call, the final prediction included."""
    return [*step_coefficients(sigmas), LAST_CALL]


def to_model_scale(latents: Float[Array, "*B T H W C"]) -> Float[Array, "*B T H W C"]:
    """Scale normalised latents (unit variance) to the deviation that diffusion works on, `SIGMA_DATA`."""
    return latents * SIGMA_DATA


def from_model_scale(latents: Float[Array, "*B T H W C"]) -> Float[Array, "*B T H W C"]:
    """Scale latents back to unit variance: the inverse of `to_model_scale`."""
    return latents / SIGMA_DATA
