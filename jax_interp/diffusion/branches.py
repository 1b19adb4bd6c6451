"""The branches of classifier-free guidance: the evaluations of the network that it needs. Imports no JAX."""

from enum import Enum


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
