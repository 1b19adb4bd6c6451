"""Classifier-free guidance, `x0 = cond + g·(cond - uncond)`, of the branches that matter."""

from jaxtyping import Array


def combine(predictions: list[Array], guidance: Array) -> Array:
    """Return the guided prediction from the predictions of `branches(guidance)`, in their dtype."""
    if len(predictions) == 1:
        return predictions[0]
    cond, uncond = predictions
    return cond + guidance.astype(cond.dtype) * (cond - uncond)
