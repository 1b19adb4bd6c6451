"""What a JSON value has to be: every offence is named with the path of its key."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import pytest

from jax_interp.files.json_schema import MAX_FAULTS, Between, Entries, JsonFault, Matching, decode


@dataclass(frozen=True)
class Inner:
    ratio: float
    sizes: tuple[int, int]


@dataclass(frozen=True)
class Outer:
    count: Annotated[int, Between(1, 9)]
    inner: Inner
    levels: Annotated[tuple[int, ...], Entries(1, 2)] = (1,)


class Entry(TypedDict):
    name: Annotated[str, Matching(str.islower, "in small letters")]
    state: Literal["on", "off"] | None


WHOLE = {"count": 3, "inner": {"ratio": 2, "sizes": [1, 2]}, "levels": [0]}


def fault(kind, value):
    with pytest.raises(JsonFault) as error:
        decode(kind, value)
    return str(error.value)


def test_dataclasses_are_built_and_dictionaries_stay():
    assert decode(Outer, WHOLE) == Outer(3, Inner(2.0, (1, 2)), (0,))
    assert type(decode(Outer, WHOLE).inner.ratio) is float
    entries = [{"name": "a", "state": None}, {"name": "b", "state": "on"}]
    assert decode(list[Entry], entries) == entries
    assert decode(dict[str, Any], {"a": [1]}) == {"a": [1]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count is 0, expected a whole number from 1 to 9"),
        ({"count": 10**60}, "count is a number of more than 40 digits, expected a whole number from 1 to 9"),
        ({"count": True}, "count is true, expected a whole number from 1 to 9"),
        ({"count": 2.0}, "count is 2.0, expected a whole number from 1 to 9"),
        ({"count": None}, "count is null, expected a whole number from 1 to 9"),
        ({"inner": 5}, "inner is 5, expected an object (Inner)"),
        ({"inner": {"ratio": 1}}, "inner lacks sizes"),
        ({"inner": {"ratio": "1", "sizes": [1, 2]}}, "inner.ratio is '1', expected a number"),
        ({"inner": {"ratio": 10**400, "sizes": [1, 2]}}, "inner.ratio is a number of more than 40 digits"),
        ({"inner": {"ratio": 1, "sizes": [1, 2, 3]}}, "inner.sizes has 3 entries, expected 2"),
        ({"inner": {"ratio": 1, "sizes": [1, "2"]}}, "inner.sizes[1] is '2', expected a whole number"),
        ({"inner": {"ratio": 1, "sizes": {}}}, "inner.sizes is an object of 0 entries, expected a list"),
        ({"levels": []}, "levels is a list of 0 entries, expected a list of 1 to 2 entries"),
        ({"more": 1}, "more is not known to this version"),
        ({"a\x1b[2J": 1}, r"'a\x1b[2J' is not known to this version"),
    ],
)
def test_each_offence(change, message):
    assert message in fault(Outer, WHOLE | change)


def test_all_offences_at_once():
    assert fault(list[Entry], [{"name": "A", "state": "up"}, {"name": "b"}, 7]) == (
        "[0].name is 'A', expected a text that is in small letters; [0].state is 'up', expected 'on' or 'off' or null;"
        " [1] lacks state; [2] is 7, expected an object (Entry)"
    )


def test_messages_stay_short():
    many = fault(list[int], ["x" * 500] * (MAX_FAULTS + 5))
    assert many.endswith("; and 5 more")
    assert len(many) < 100 * MAX_FAULTS
    assert len(fault(dict[str, int], {"k" * 5000: "x"})) < 120
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert fault(int, deep) == "it is a list of 1 entries, expected a whole number"
