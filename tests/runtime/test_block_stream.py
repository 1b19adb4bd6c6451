"""The order of blocks and their parts, what is on the device meanwhile, and what a run leaves behind."""

import gc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.runtime.block_stream import PREFETCHED_PARTS, BlockStream, PartResult, completion_marker

WIDTH = 37
"""Of no other array in these tests, so that blocks can be counted among all live arrays."""


@pytest.fixture(autouse=True)
def nothing_left(settled_heap):
    """Stacks of earlier tests are gone, with their cycles of references."""
    gc.collect()


def copy(at, params):
    return jax.device_put(params, jax.devices()[0])


def on_device() -> int:
    """How many blocks the device holds; a fake device's work holds on to its blocks."""
    return sum(array.shape == (WIDTH,) for array in jax.live_arrays())


class Stack:
    """Blocks of two parts, which are numbers, on a device that computes only when it is waited for."""

    def __init__(self, num_blocks: int, **options):
        self.order = [(block, part) for block in range(num_blocks) for part in range(2)]
        self.read, self.applied, self.most = [], [], 0
        self.running = []
        self.blocks = BlockStream(self.source, self.order, self.copy, **options)

    def source(self, at):
        # The copy that is about to start comes on top of what is there.
        self.most = max(self.most, on_device() + 1)
        self.read.append(at)
        return {"number": np.full(WIDTH, number(*at), np.float32)}

    def copy(self, at, params):
        assert at == self.read[-1]
        return copy(at, params)

    def apply(self, call, state) -> PartResult[Any]:
        assert call.ahead is None
        assert call.params["number"][0] == number(call.block, call.part)
        self.applied.append((call.block, call.part))
        event: Any = Event(self.running)
        self.running.append((event, call.params))
        return PartResult(3 * state + call.params["number"][0], event)

    def run(self, state=1.0):
        self.applied.clear()
        return float(self.blocks.run(self.apply, jnp.float32(state)))

    def result(self, state=1.0):
        """What a pass should give."""
        for at in self.order:
            state = 3 * state + number(*at)
        return np.float32(state)


def number(block, part):
    return 2 * block + part


class Event:
    """A block in the device's queue, which holds parameters until they are used; blocks are done in order."""

    def __init__(self, running, error=None):
        self._running, self._error = running, error

    def block_until_ready(self):
        if self._error is not None:
            raise self._error
        while any(event is self for event, _ in self._running):
            del self._running[0]
        return self


PLACES = {
    "resident": range(5),
    "streamed": (),
    "every other": (1, 3),
    "first": (0,),
    "last": (4,),
    "all but one": (0, 1, 3, 4),
}


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("resident", PLACES.values(), ids=PLACES)
def test_parts_run_in_order_in_every_pass(resident, repeats):
    stack = Stack(5, resident=resident, repeats=repeats)
    for state in (1.0, 2.0, 5.0):
        assert stack.run(state) == stack.result(state)
        assert stack.applied == stack.order


def test_another_order_gives_another_result():
    stack = Stack(5)
    blocks = BlockStream(lambda at: stack.source((4 - at[0], at[1])), stack.order, copy)
    out = blocks.run(lambda call, state: stack.apply(call._replace(block=4 - call.block), state), jnp.float32(1))
    assert float(out) != stack.result()
    assert stack.applied[:3] == [(4, 0), (4, 1), (3, 0)]


@pytest.mark.parametrize("num_blocks", [1, 2])
@pytest.mark.parametrize("repeats", [True, False])
def test_short_stacks(num_blocks, repeats):
    stack = Stack(num_blocks, repeats=repeats)
    for _ in range(3):
        assert stack.run() == stack.result()
    assert stack.most <= PREFETCHED_PARTS + 1


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("resident", PLACES.values(), ids=PLACES)
def test_few_streamed_parts_are_on_the_device_at_a_time(resident, repeats):
    """Also across passes, whose work the host may queue without waiting."""
    before = on_device()
    stack = Stack(5, resident=resident, repeats=repeats)
    stack.most = 0
    for _ in range(3):
        stack.run()
    assert stack.most - before <= 2 * len(resident) + PREFETCHED_PARTS + 1
    stack.running.clear()
    for_the_next_pass = PREFETCHED_PARTS - (4 not in resident) if repeats and len(resident) < 5 else 0
    assert on_device() - before == 2 * len(resident) + for_the_next_pass


def test_a_device_that_is_never_waited_for_would_be_noticed(monkeypatch):
    before = on_device()
    monkeypatch.setattr(jax, "block_until_ready", lambda value: value)
    stack = Stack(5, repeats=False)
    stack.run()
    assert stack.most - before == 10


def test_resident_blocks_are_read_once_and_first():
    stack = Stack(5, resident=(3, 1))
    first = [(1, 0), (1, 1), (3, 0), (3, 1)]
    assert stack.read == first
    for _ in range(2):
        stack.run()
    assert [stack.read.count(at) for at in first] == [1] * 4


def test_the_next_parts_are_under_way_while_one_computes():
    stack = Stack(4, repeats=False)
    seen = []

    def apply(call, state):
        seen.append(len(stack.read))
        return stack.apply(call, state)

    stack.blocks.run(apply, 0.0)
    assert seen == [min(PREFETCHED_PARTS + i, 8) for i in range(8)]
    assert stack.read == stack.order


def test_copies_go_on_while_a_resident_block_computes():
    stack = Stack(4, resident=(1,), repeats=False)
    streamed = [at for at in stack.order if at[0] != 1]
    seen = []

    def apply(call, state):
        if call.block == 1:
            seen.append(stack.read[2:])
        return stack.apply(call, state)

    stack.blocks.run(apply, 0.0)
    assert seen == [streamed[: 2 + PREFETCHED_PARTS]] * 2


def test_the_next_pass_begins_with_parts_that_are_there():
    stack = Stack(3)
    stack.run()
    ahead = stack.order[: PREFETCHED_PARTS - 1]
    assert stack.read == [*stack.order, *ahead]
    stack.run()
    assert stack.read == [*stack.order, *stack.order, *ahead]


def test_without_another_pass_nothing_is_fetched_for_it():
    before = on_device()
    stack = Stack(3, resident=(1,), repeats=False)
    stack.run()
    assert stack.read == [(1, 0), (1, 1), (0, 0), (0, 1), (2, 0), (2, 1)]
    stack.running.clear()
    assert on_device() - before == 2
    stack.run()
    assert stack.read[6:] == [(0, 0), (0, 1), (2, 0), (2, 1)]


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("stop", range(8))
@pytest.mark.parametrize("resident", [(), (1, 3)], ids=["streamed", "mixed"])
def test_a_pass_after_an_interrupted_one_starts_over(resident, stop, repeats):
    stack = Stack(4, resident=resident, repeats=repeats)

    def apply(call, state):
        if (call.block, call.part) == stack.order[stop]:
            raise Interrupted
        return stack.apply(call, state)

    with pytest.raises(Interrupted):
        stack.blocks.run(apply, 1.0)
    for _ in range(2):
        assert stack.run() == stack.result()
        assert stack.applied == stack.order


@pytest.mark.parametrize("failing", [(0, 0), (1, 1), (3, 0), (3, 1)])
def test_a_part_that_failed_on_the_device_is_not_asked_again(failing):
    stack = Stack(4)

    def apply(call, state):
        failed: Any = Event(stack.running, Interrupted())
        result = stack.apply(call, state)
        return result._replace(mark=failed) if (call.block, call.part) == failing else result

    def two_passes():
        for _ in range(2):
            stack.blocks.run(apply, 1.0)

    with pytest.raises(Interrupted):
        two_passes()
    assert stack.run() == stack.result()


@pytest.mark.parametrize("resident", PLACES.values(), ids=PLACES)
def test_closing_gives_the_memory_back(resident):
    before = on_device()
    stack = Stack(5, resident=resident)
    stack.run()
    stack.running.clear()
    assert on_device() > before
    stack.blocks.close()
    assert on_device() == before


def test_what_is_derived_of_resident_parts_is_made_once_and_given_up_with_them():
    before = on_device()
    stack = Stack(3, resident=range(3))
    made = [stack.blocks.derived("sum", lambda: stack.blocks.resident_part(1, 0)["number"] + 1) for _ in range(2)]
    assert made[0] is made[1]
    made.clear()
    stack.blocks.close()
    assert on_device() == before


def test_a_part_that_cannot_be_read_is_said_at_once():
    def source(at):
        raise OSError(f"part {at}")

    order = Stack(4).order
    with pytest.raises(OSError, match=r"part \(2, 0\)"):
        BlockStream(source, order, copy, resident=(2,))
    with pytest.raises(OSError, match=r"part \(0, 0\)"):
        BlockStream(source, order, copy).run(lambda _, state: PartResult(state, completion_marker(state)), jnp.zeros(3))


def test_a_mark_is_one_value_of_the_state():
    mark = completion_marker((jnp.arange(1.0, 7.0).reshape(1, 2, 3), jnp.zeros(4)))
    assert (mark.shape, float(mark[0])) == ((1,), 1)
