"""Running the parts of a stack with sharded weights: each is gathered by the program of the part before it."""

from collections.abc import Callable
from typing import Any

import jax

from jax_interp.runtime.block_stream import Apply, PartCall, PartResult
from jax_interp.types import Params

PartIndex = tuple[int, int]
"""(index of the block, index of the part within it)"""


class GatherAhead:
    """A callable for one pass that runs each part once its successor's shards are there, and the last one in `finish`.

    It serves as the `Apply` of `runtime.block_stream.BlockStream.run`. It is called with shards, and calls `apply` with
    gathered parameters and, in `PartCall.ahead`, the shards of the next part. `gather(index, shards)` gathers a part's
    parameters and returns them with a marker that is ready when they are.
    """

    def __init__(self, gather: Callable[[PartIndex, Params], tuple[Params, jax.Array]], apply: Apply[Any]):
        self._gather, self._apply = gather, apply
        self._held: tuple[PartIndex, Params] | None = None

    def __call__(self, call: PartCall, state: Any) -> PartResult[Any]:
        """Run the part that was delayed, and delay this one."""
        if self._held is None:
            together, mark = self._gather((call.block, call.part), call.params)
        else:
            (at, params), self._held = self._held, None
            state, mark, together = self._apply(PartCall(*at, params, ahead=call.params), state)
        assert together is not None
        self._held = (call.block, call.part), together
        return PartResult(state, mark)

    def finish(self, state: Any) -> Any:
        """Run the last part, and return the last state."""
        assert self._held is not None
        (at, params), self._held = self._held, None
        return self._apply(PartCall(*at, params), state).state
