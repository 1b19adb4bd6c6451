"""AdamW with clipped gradients, on optax."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jax_interp.train.optimization.schedule import learning_rate
from jax_interp.train.settings import OptimizerSettings


def make_optimizer(settings: OptimizerSettings, steps: int) -> optax.GradientTransformation:
    """Return the optimizer: values that are not numbers become 0, the global norm is clipped, then AdamW is applied."""
    return optax.chain(
        zero_non_finite(), optax.clip_by_global_norm(settings.clip_norm), make_unclipped(settings, steps)
    )


def make_unclipped(settings: OptimizerSettings, steps: int) -> optax.GradientTransformation:
    """Return AdamW alone, for gradients that are already clipped."""
    rate = learning_rate(settings, steps)
    adamw = optax.adamw(rate, *settings.betas, eps=settings.epsilon, weight_decay=settings.weight_decay)
    return _promoting(adamw)


def zero_non_finite() -> optax.GradientTransformation:
    """Return a transformation that sets NaN and infinities of gradients to 0, as upstream does before it clips."""

    def zero_others(updates: Any, params: Any = None) -> Any:
        del params
        return jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, jnp.zeros_like(g)), updates)

    return optax.stateless(zero_others)


def gradient_norm(gradients: Any) -> Float[Array, ""]:
    """Return the global norm of the gradients, in float32 whatever their dtypes."""
    return optax.tree.norm(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), gradients))


def _promoting(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """optax raises floats to the power of whole step numbers, which JAX allows unless it is told to be strict."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(updates, state, params)

    return optax.GradientTransformation(optimizer.init, update)
