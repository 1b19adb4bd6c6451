"""Parts of a stack whose weights are divided among devices: each gathered by the program of the part before."""

from collections.abc import Callable
from typing import Any

import jax

from jax_interp.runtime.block_stream import Apply, PartCall, PartResult
from jax_interp.types import Params

PartIndex = tuple[int, int]
"""(block, part)"""


class GatherAhead:
    """Runs each part when its successor's shares are there, for one pass; the last one when `finish` is called.

    To be used where `runtime.block_stream` asks for a function to apply: it is called with shares, and calls `apply`
    with whole parameters and, in `PartCall.ahead`, the shares of the part after them. `gather(at, shares)` puts a
    part's parameters together and gives a mark that they are there.
    """

    def __init__(self, gather: Callable[[PartIndex, Params], tuple[Params, jax.Array]], apply: Apply[Any]):
        self._gather, self._apply = gather, apply
        self._held: tuple[PartIndex, Params] | None = None

    def __call__(self, call: PartCall, state: Any) -> PartResult[Any]:
        """Run what is held, and hold this part instead."""
        if self._held is None:
            together, mark = self._gather((call.block, call.part), call.params)
        else:
            (at, params), self._held = self._held, None
            state, mark, together = self._apply(PartCall(*at, params, ahead=call.params), state)
        assert together is not None
        self._held = (call.block, call.part), together
        return PartResult(state, mark)

    def finish(self, state: Any) -> Any:
        """Run the last part."""
        assert self._held is not None
        (at, params), self._held = self._held, None
        return self._apply(PartCall(*at, params), state).state
