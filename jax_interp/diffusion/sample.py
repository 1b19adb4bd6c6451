"""The sampling loop as free functions over a `denoise` callable."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_interp.diffusion.condition import Augmentation, noisy_condition
from jax_interp.diffusion.guidance import combine
from jax_interp.diffusion.scaling import SIGMA_DATA, Scaling, scaling
from jax_interp.diffusion.solver import StepCoefficients, advance, step_coefficients
from jax_interp.types import Latents, Precision

Net: TypeAlias = Callable[[Latents, Float[Array, " B"]], Latents]
"""(scaled latents, c_noise) -> network output"""


class CallInputs(NamedTuple):
    """What changes from one sampler call to the next; arrays only, so that one compiled step serves all calls."""

    scaling: Scaling
    state_c_in: np.ndarray
    """c_in in float32 whatever the network's dtype: the scale of the state that the condition frames are put into."""
    coefficients: StepCoefficients
    augmentations: Sequence[Augmentation]
    """One for each evaluated branch."""


def call_inputs(sigma: float, coefficients: StepCoefficients, augmentations: Any, precision: Precision) -> CallInputs:
    """The inputs of the call at noise level `sigma`."""
    sigma32 = np.float32(sigma)
    return CallInputs(scaling(sigma32, precision), scaling(sigma32, "float32").c_in, coefficients, augmentations)


def denoise(
    net: Net,
    condition: Latents,
    indicator: Float[Array, "T 1 1 1"],
    guidance: Array,
    x: Latents,
    inputs: CallInputs,
) -> Latents:
    """The guided prediction x0 of clean latents from the float32 state `x`, float32.

    `condition` are the clean latents of the frames where `indicator` is 1, in the network's dtype. `net` gets all
    branches of all pairs as one batch: branch by branch, pairs within.
    """
    dtype = condition.dtype
    c_skip, c_out, c_in, c_noise = (jnp.asarray(factor).astype(dtype) for factor in inputs.scaling)
    known = indicator.astype(bool)
    states = [
        jnp.where(known, noisy_condition(condition, augmentation, jnp.asarray(inputs.state_c_in)), x).astype(dtype)
        for augmentation in inputs.augmentations
    ]
    stacked = jnp.concatenate(states)
    predictions = c_skip * stacked + c_out * net(c_in * stacked, jnp.broadcast_to(c_noise, stacked.shape[:1]))
    clean = [jnp.where(known, condition, prediction) for prediction in jnp.split(predictions, len(states))]
    return combine(clean, guidance).astype(jnp.float32)


Step: TypeAlias = Callable[[Latents, Latents, CallInputs], tuple[Latents, Latents]]
"""(state, previous x0, inputs) -> (next state, x0)"""


def step(
    predict: Callable[[Latents, CallInputs], Latents], x: Latents, previous_x0: Latents, inputs: CallInputs
) -> tuple[Latents, Latents]:
    """One prediction (see `denoise`) and one solver step: the next state and this call's x0."""
    x0 = predict(x, inputs)
    return advance(x, x0, previous_x0, inputs.coefficients), x0


def sample(
    run_step: Step, noise: Latents, sigmas: Float[np.ndarray, " steps_plus_1"], calls: Iterable[CallInputs]
) -> Latents:
    """Integrate from `noise`·sigma_0 to the last level and return the x0 predicted there, float32.

    `run_step` is `step`, usually compiled; `calls` has one entry a noise level and may be a generator, which is then
    the place to show progress or to stop.
    """
    x = noise * np.float32(sigmas[0])
    x0 = jnp.zeros_like(x)
    for inputs in calls:
        x, x0 = run_step(x, x0, inputs)
    return x0


LAST_CALL = StepCoefficients(np.float32(1), np.float32(0), np.float32(0))
"""The call at the last level only predicts; its state is not used."""


def call_coefficients(sigmas: Float[np.ndarray, " steps_plus_1"]) -> list[StepCoefficients]:
    """Solver coefficients of every call, the final prediction included."""
    return [*step_coefficients(sigmas), LAST_CALL]


def to_model_scale(latents: Latents) -> Latents:
    """Normalised latents (unit variance) to the scale that diffusion works on."""
    return latents * SIGMA_DATA


def from_model_scale(latents: Latents) -> Latents:
    """Inverse of `to_model_scale`."""
    return latents / SIGMA_DATA
