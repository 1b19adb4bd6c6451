"""Classifier-free guidance, `x0 = cond + g·(cond - uncond)`, evaluating only the branches that matter."""

from enum import Enum

from jaxtyping import Array


class Branch(Enum):
    """A branch of guidance, evaluated once a step; the value is its place in upstream's order of calls."""

    CONDITIONAL = 0
    UNCONDITIONAL = 1


def branches(guidance: float) -> tuple[Branch, ...]:
    """Return the branches that contribute: at -1 the conditional one cancels, at 0 the unconditional one does."""
    if guidance == -1:
        return (Branch.UNCONDITIONAL,)
    if guidance == 0:
        return (Branch.CONDITIONAL,)
    return Branch.CONDITIONAL, Branch.UNCONDITIONAL


def combine(predictions: list[Array], guidance: Array) -> Array:
    """Return the guided prediction from the predictions of `branches(guidance)`, in their dtype."""
    if len(predictions) == 1:
        return predictions[0]
    cond, uncond = predictions
    return cond + guidance.astype(cond.dtype) * (cond - uncond)
