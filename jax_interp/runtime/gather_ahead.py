"""Parts of a stack whose weights are divided among devices: each gathered by the program of the part before."""

from collections.abc import Callable
from typing import Any

import jax

from jax_interp.types import Params

At = tuple[int, int]
"""(block, part)"""


class GatherAhead:
    """Runs each part when its successor's shares are there, for one pass; the last one when `finish` is called.

    To be used where `runtime.block_stream` asks for a function to apply. `gather(at, shares)` gives a part's parameters
    and a mark; `apply(block, part, parameters, state, ahead)` gives (state, mark, parameters gathered from `ahead`).
    """

    def __init__(
        self,
        gather: Callable[[At, Params], tuple[Params, jax.Array]],
        apply: Callable[[int, int, Params, Any, Params | None], tuple[Any, jax.Array, Params | None]],
    ):
        self._gather, self._apply = gather, apply
        self._held: tuple[At, Params] | None = None

    def __call__(self, block: int, part: int, shares: Params, state: Any) -> tuple[Any, jax.Array]:
        """Run what is held, and hold this part instead."""
        if self._held is None:
            together, mark = self._gather((block, part), shares)
        else:
            (at, params), self._held = self._held, None
            state, mark, together = self._apply(*at, params, state, shares)
        assert together is not None
        self._held = (block, part), together
        return state, mark

    def finish(self, state: Any) -> Any:
        """Run the last part."""
        assert self._held is not None
        (at, params), self._held = self._held, None
        return self._apply(*at, params, state, None)[0]
