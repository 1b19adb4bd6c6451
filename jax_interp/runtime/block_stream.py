"""A stack of blocks run one after the other, each part on the device when its turn comes.

The same compiled parts run whatever the placement, so a streamed network gives the bits of a resident one.
"""

from collections import deque
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import jax

from jax_interp.runtime.host import to_device
from jax_interp.types import Params

StateT = TypeVar("StateT")

Apply = Callable[[int, int, Params, StateT], tuple[StateT, Any]]
"""(block, part, its parameters, state) -> (state after it, a small array that is ready when the part is done)"""

WAITING = 2
"""Streamed parts on their way or there, beside the one that computes. XLA starts a copy when all work that it was given
before is done; with fewer, copies and arithmetic would take turns (7B on an H100: 553 ms instead of 328 ms)."""


class BlockStream:
    """The blocks of a network for one stage, each cut into `num_parts`.

    `source(i, p)` gives the parameters of part p of block i in host memory. Blocks in `resident` are copied at once and
    stay until `close`; of the others `WAITING` parts and the computing one are on the device at a time. `repeats` says
    that another pass follows every pass, so that its first part is under way before the last one has ended.
    """

    def __init__(
        self,
        source: Callable[[int, int], Params],
        num_blocks: int,
        num_parts: int,
        device: jax.Device,
        *,
        resident: Collection[int] = (),
        repeats: bool = True,
    ):
        self._source, self._device, self._repeats = source, device, repeats
        self._order = [(block, part) for block in range(num_blocks) for part in range(num_parts)]
        self._streamed = [at for at in self._order if at[0] not in resident]
        self._resident = {at: to_device(source(*at), device) for at in self._order if at[0] in resident}
        self._waiting: deque[Params] = deque()
        self._next = 0

    def run(self, apply: Apply[StateT], state: StateT) -> StateT:
        """`apply` every part of every block in turn to `state`."""
        if not self._repeats:
            self._next = 0
        dones: deque[Any] = deque()
        for at in self._order:
            if self._streamed:
                # The device has the last part to compute. Running further ahead would reserve memory for every copy.
                while len(dones) > 1:
                    jax.block_until_ready(dones.popleft())
                self._fetch()
            params = self._resident[at] if at in self._resident else self._waiting.popleft()
            state, done = apply(*at, params, state)
            del params  # so that a later copy may take its memory
            dones.append(done)
        return state

    def close(self) -> None:
        """Give the device's memory back."""
        self._resident.clear()
        self._waiting.clear()
        self._next = 0

    def _fetch(self) -> None:
        """Start copies until `WAITING` parts are on their way or there; behind the last one follows the first."""
        while len(self._waiting) < WAITING:
            if self._next == len(self._streamed):
                if not self._repeats:
                    return
                self._next = 0
            self._waiting.append(to_device(self._source(*self._streamed[self._next]), self._device))
            self._next += 1
