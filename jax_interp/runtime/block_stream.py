"""Running a stack of blocks one after the other, each part of a block on the device when its turn comes.

The same compiled parts run in every placement, so a streamed network gives the same bits as a resident one.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax

from jax_interp.types import Params

StateT = TypeVar("StateT")
DerivedT = TypeVar("DerivedT")


class PartCall(NamedTuple):
    """The call of one part of a block."""

    block: int
    part: int
    params: Params
    ahead: Params | None = None
    """The shards of the next part, which the same program gathers (`runtime.gather_ahead`)."""


class PartResult(NamedTuple, Generic[StateT]):
    """The result of a part's program, as a tree of arrays."""

    state: StateT
    mark: jax.Array
    """The `completion_marker` of the state."""
    gathered: Params | None = None
    """The parameters of the next part, gathered from `PartCall.ahead`."""


Apply = Callable[[PartCall, StateT], PartResult[StateT]]
"""A callable that runs the program of a part on the state that the part before returned, for example
`lambda call, state: programs[call.part](call.params, state, inputs, call.ahead)`."""

PREFETCHED_PARTS = 3
"""The number of streamed parts that are copied ahead of the one that computes. XLA starts a copy only when all work
that it was given before is done, so a copy must be requested well ahead. With one block ahead, copies and arithmetic
took turns (7B on an H100: 553 ms an evaluation); with two halves of a block they nearly overlapped (343 ms), with
three halves they do (321 ms)."""


def completion_marker(state: Any) -> jax.Array:
    """Return a small array that is ready when `state` is.

    `state` itself cannot be waited for, because the next part reuses its buffers.
    """
    first = jax.tree.leaves(state)[0]
    return first[(0,) * first.ndim][None]


class BlockStream:
    """The blocks of a network for one stage, cut into parts that run in `order`, a sequence of (block, part).

    `source((block, part))` returns a part's parameters in host memory; `copy` starts to bring them to the device. The
    blocks in `resident` are copied at once and stay until `close`. Of the others, `PREFETCHED_PARTS` parts and the one
    that computes are on the device at a time. `repeats` says that every pass is followed by another, whose first part
    is therefore copied before the last one of this pass has ended.
    """

    def __init__(
        self,
        source: Callable[[tuple[int, int]], Params],
        order: Sequence[tuple[int, int]],
        copy: Callable[[tuple[int, int], Params], Params],
        *,
        resident: Collection[int] = (),
        repeats: bool = True,
    ):
        self._repeats = repeats
        self._bring = lambda at: copy(at, source(at))
        self._order = order
        self._streamed = [at for at in order if at[0] not in resident]
        self._resident = {at: self._bring(at) for at in order if at[0] in resident}
        self._derived: dict[Any, Any] = {}
        self._waiting: deque[Params] = deque()
        self._next = 0
        self._dones: deque[Any] = deque()
        self._under_way = False

    @property
    def all_resident(self) -> bool:
        """Whether every part of every block stays on the device until `close`."""
        return not self._streamed

    def resident_part(self, block: int, part: int) -> Params:
        """Return the parameters of a part that stays on the device.

        Raises:
            KeyError: the block does not stay there.
        """
        return self._resident[block, part]

    def derived(self, key: Any, make: Callable[[], DerivedT]) -> DerivedT:
        """Return what `make` returned when it was called for `key`; it is kept as long as the resident parameters."""
        if key not in self._derived:
            self._derived[key] = make()
        return self._derived[key]

    def run(self, apply: Apply[StateT], state: StateT) -> StateT:
        """Apply every part of every block in turn to `state`, and return the last state."""
        if self._under_way:
            self._forget_pass()  # an earlier pass that was cut short left prefetched parts that do not come first
        self._under_way = True
        for at in self._order:
            if self._streamed:
                # The device still has the part before to compute, at first that of the previous pass. Running further
                # ahead would reserve memory for every copy.
                while len(self._dones) > 1:
                    jax.block_until_ready(self._dones.popleft())
                self._fetch()
            params = self._resident[at] if at in self._resident else self._waiting.popleft()
            result = apply(PartCall(*at, params), state)
            del params  # so that a later copy may reuse its memory
            state = result.state
            if self._streamed:
                self._dones.append(result.mark)
        self._under_way = False
        if not self._repeats:
            self._next = 0
        return state

    def close(self) -> None:
        """Free the device's memory."""
        self._resident.clear()
        self._derived.clear()
        self._forget_pass()

    def _forget_pass(self) -> None:
        self._waiting.clear()
        self._dones.clear()
        self._next = 0

    def _fetch(self) -> None:
        """Start copies until `PREFETCHED_PARTS` parts are prefetched; after the last part comes the first one again."""
        while len(self._waiting) < PREFETCHED_PARTS:
            if self._next == len(self._streamed):
                if not self._repeats:
                    return
                self._next = 0
            self._waiting.append(self._bring(self._streamed[self._next]))
            self._next += 1
