"""A stack of blocks run one after the other, each on the device when its turn comes.

The same compiled block runs whatever the placement, so a streamed network gives the bits of a resident one.
"""

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import jax

from jax_interp.runtime.host import to_device
from jax_interp.types import Params

StateT = TypeVar("StateT")

Apply = Callable[[int, Params, StateT], tuple[StateT, Any]]
"""(index and parameters of a block, state) -> (state after it, a small array that is ready when the block is done)"""


class BlockStream:
    """The blocks of a network for one stage.

    `source(i)` gives the parameters of block i in host memory. Those in `resident` are copied at once and stay until
    `close`; of the others two are on the device at a time: one computes, the next one arrives. `repeats` says that
    another pass follows every pass, so that its first block is under way before the last one has ended.
    """

    def __init__(
        self,
        source: Callable[[int], Params],
        num_blocks: int,
        device: jax.Device,
        *,
        resident: Collection[int] = (),
        repeats: bool = True,
    ):
        self._source, self._device, self._repeats = source, device, repeats
        self._num_blocks = num_blocks
        self._resident = {i: to_device(source(i), device) for i in sorted(resident)}
        self._streamed = [i for i in range(num_blocks) if i not in self._resident]
        self._arriving: Params | None = None
        self._next = 0

    def run(self, apply: Apply[StateT], state: StateT) -> StateT:
        """`apply` every block in turn to `state`."""
        before: Any = None
        for i in range(self._num_blocks):
            if i in self._resident:
                state, done = apply(i, self._resident[i], state)
            else:
                state, done = apply(i, self._take(), state)
                # The device has this block to compute; when the one before is done its memory is free for the next
                # copy. Without the wait the host would run ahead and reserve memory for all of them.
                if before is not None:
                    jax.block_until_ready(before)
                self._fetch(last=i == self._streamed[-1])
            before = done
        return state

    def close(self) -> None:
        """Give the device's memory back."""
        self._resident.clear()
        self._arriving = None

    def _take(self) -> Params:
        """The next streamed block, whose copy is on its way unless this is the very first."""
        if self._arriving is None:
            self._fetch(last=False)
        params, self._arriving = self._arriving, None
        assert params is not None
        return params

    def _fetch(self, *, last: bool) -> None:
        """Start copying the next streamed block; after the last one of a pass the first, if a pass follows."""
        if last and not self._repeats:
            self._next = 0
            return
        index = self._streamed[self._next]
        self._next = (self._next + 1) % len(self._streamed)
        self._arriving = to_device(self._source(index), self._device)
