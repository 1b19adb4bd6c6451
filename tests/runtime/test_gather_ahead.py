"""The order in which divided parts are put together and run."""

from typing import Any

import pytest

from jax_interp.runtime.block_stream import BlockStream, PartCall, PartResult
from jax_interp.runtime.gather_ahead import GatherAhead

ORDER = [(block, part) for block in range(3) for part in range(2)]


class Programs:
    """What stands for the compiled programs; shares are names, whole parameters the names in capitals."""

    def __init__(self):
        self.log = []

    def gather(self, at, shares) -> Any:
        assert shares["name"] == name(at)
        self.log.append(f"gather {shares['name']}")
        return {"name": shares["name"].upper()}, f"{shares['name']} is there"

    def apply(self, call, state) -> Any:
        whole = call.params["name"]
        assert whole == name((call.block, call.part)).upper()
        following = None if call.ahead is None else {"name": call.ahead["name"].upper()}
        self.log.append(f"run {whole}, gather {call.ahead and call.ahead['name']}")
        return result(state + whole, f"{whole} has run", following)

    def late(self):
        return GatherAhead(self.gather, self.apply)


def name(at):
    return "abcdef"[ORDER.index(at)]


def source(at):
    return {"name": name(at)}


def call(block, part):
    return PartCall(block, part, source((block, part)))


def result(state, mark: Any, gathered=None):
    return PartResult(state, mark, gathered)


@pytest.fixture
def programs():
    return Programs()


def test_every_part_runs_once_and_in_order(programs):
    late = programs.late()
    state = ""
    for at in ORDER:
        state = late(call(*at), state).state
    assert state == "ABCDE"
    assert late.finish(state) == "ABCDEF"
    assert programs.log == [
        "gather a",
        "run A, gather b",
        "run B, gather c",
        "run C, gather d",
        "run D, gather e",
        "run E, gather f",
        "run F, gather None",
    ]


def test_each_part_runs_when_the_next_one_is_brought(programs):
    late = programs.late()
    assert late(call(0, 0), "") == result("", "a is there")
    assert late(call(0, 1), "") == result("A", "A has run")
    assert late(call(1, 0), "A") == result("AB", "B has run")


def test_a_single_part(programs):
    late = programs.late()
    assert late.finish(late(call(0, 0), "").state) == "A"
    assert programs.log == ["gather a", "run A, gather None"]


def test_passes_of_a_stream(programs):
    stream = BlockStream(source, ORDER, lambda at, params: params, resident=(1,))
    for _ in range(2):
        late = programs.late()
        assert late.finish(stream.run(late, "")) == "ABCDEF"


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("stop", range(1, 7))
def test_a_pass_after_one_that_was_cut_short(programs, stop):
    stream = BlockStream(source, ORDER, lambda at, params: params)

    def cut(*arguments):
        if len(programs.log) == stop:
            raise Interrupted
        return programs.apply(*arguments)

    def whole_pass(apply):
        late = GatherAhead(programs.gather, apply)
        return late.finish(stream.run(late, ""))

    with pytest.raises(Interrupted):
        whole_pass(cut)
    assert len(programs.log) == stop
    assert whole_pass(programs.apply) == "ABCDEF"


def test_a_part_that_has_run_is_not_held(programs):
    """Its parameters may go while the next ones are put together."""
    held = []

    def apply(*arguments):
        held.append(late._held)
        return programs.apply(*arguments)

    late = GatherAhead(programs.gather, apply)
    for at in ORDER[:3]:
        late(call(*at), "")
    late.finish("")
    assert held == [None] * 3
    assert late._held is None
