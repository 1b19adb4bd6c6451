"""The settings of a run's memory: the budget, and the placements that the user chose. Imports no JAX."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jax_interp.components import PLACEMENT_NAMES
from jax_interp.errors import UsageError
from jax_interp.runtime.placement import Placement


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """The user's choices about memory; None leaves a choice to the planner."""

    budget: int | None = None
    """Bytes of GPU memory that a run may take; None stands for the free memory."""
    placements: Mapping[str, Placement] = field(default_factory=dict)
    """The placements of the networks that the user placed, by their names in `components.PLACEMENT_NAMES`."""
    pairs_per_batch: int | None = None
    """Pairs that share a pass over the weights."""

    def __post_init__(self) -> None:
        faults = [f"there is no network {name} to place" for name in self.placements if name not in PLACEMENT_NAMES]
        if self.budget is not None and self.budget < 1:
            faults.append(f"--memory-budget is {self.budget} bytes; expected 1 or more")
        if self.pairs_per_batch is not None and self.pairs_per_batch < 1:
            faults.append(f"--pairs-per-batch is {self.pairs_per_batch}; expected 1 or more")
        if faults:
            raise UsageError("; ".join(faults))
