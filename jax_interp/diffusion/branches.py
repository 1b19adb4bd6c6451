"""Which evaluations of the network classifier-free guidance needs. Imports no JAX."""

from enum import Enum


class Branch(Enum):
    """One evaluation of the network; the value is its place in upstream's order of calls within a step."""

    CONDITIONAL = 0
    UNCONDITIONAL = 1


def branches(guidance: float) -> tuple[Branch, ...]:
    """Which branches contribute: at -1 the conditional one cancels, at 0 the unconditional one does."""
    if guidance == -1:
        return (Branch.UNCONDITIONAL,)
    if guidance == 0:
        return (Branch.CONDITIONAL,)
    return Branch.CONDITIONAL, Branch.UNCONDITIONAL
