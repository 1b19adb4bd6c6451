"""The settings of a sampling run. Imports no JAX."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from jax_interp.errors import UsageError

if TYPE_CHECKING:  # what a run is asked for is checked without numpy, which takes a moment to import
    import numpy as np
    from jaxtyping import Float

NoiseSource: TypeAlias = Callable[[int], tuple[float, "Float[np.ndarray, 'T H W C']"]]
"""A source of condition noise: a function from the index of a network call to (sigma, noise of unit variance).

`lambda call: (0.001, np.zeros((3, 88, 160, 16), np.float32))` adds no noise.
"""

ConditionNoise: TypeAlias = Literal["fixed", "random"] | NoiseSource
"""The condition noise. `fixed` means sigma 0.001 and the initial noise again, `random` a seeded draw at every network
call from upstream's distribution (which is unseeded there). A callable replays given draws; its calls are counted as
upstream's are: pair after pair, two calls a step, conditional first, also when only one branch is evaluated."""


@dataclass(frozen=True)
class SampleSettings:
    """The settings of a sampling run; the defaults are upstream's effective values."""

    guidance: float = -1.0
    seed: int = 11
    num_steps: int = 35
    fps: float = 24.0
    condition_noise: ConditionNoise = "fixed"


def check_steps(num_steps: int) -> None:
    """Raise `UsageError` if no run can have so many solver steps."""
    if num_steps < 1:
        raise UsageError(f"--num-steps is {num_steps}; expected 1 or more (35 is usual)")
