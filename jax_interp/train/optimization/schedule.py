"""The learning rate over the steps of a run."""

from typing import Any

import jax.numpy as jnp
import optax

from jax_interp.train.settings import OptimizerSettings

START_FACTOR = 1e-6
"""The share of the rate at step 0 of a warm-up."""


def learning_rate(settings: OptimizerSettings, steps: int) -> optax.Schedule:
    """Return the learning rate by step, counted from 0.

    It is a linear warm-up, then constant or decaying to `final_factor` of the rate at `steps`."""
    peak, rest = settings.learning_rate, max(1, steps - settings.warmup_steps)
    after = {
        "constant": optax.constant_schedule(peak),
        "linear": optax.linear_schedule(peak, peak * settings.final_factor, rest),
        "cosine": optax.cosine_decay_schedule(peak, rest, settings.final_factor),
    }[settings.decay]
    if not settings.warmup_steps:
        return after

    def warmup(step: Any) -> Any:  # from the small end: optax's own begins at the large one and loses the small one
        return peak * (START_FACTOR + (1 - START_FACTOR) * (jnp.asarray(step, jnp.float32) / settings.warmup_steps))

    return optax.join_schedules([warmup, after], [settings.warmup_steps])
