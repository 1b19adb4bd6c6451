"""Schemas of JSON values, given as types: every offence is found at once, each with the path of its key.

class Entry(TypedDict):
    name: str
    size: Annotated[int, Between(0, 2**63)]

decode(list[Entry], [{"name": "a", "size": -1}, {"size": 2}])
# JsonFault: [0].size is -1, expected a whole number from 0 to 9223372036854775808; [1] lacks name
"""

import dataclasses
import math
import types
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

T = TypeVar("T")

MAX_FAULTS = 10
"""The number of offences that a message lists."""
_MAX_SHOWN = 40
"""The number of characters of a value or key that a message quotes."""


class JsonFault(ValueError):
    """An error of a JSON text or value; its message says what is wrong, without the name of the file."""


@dataclass(frozen=True)
class Between:
    """The limits `low` and `high` of a number, both included, as in `Annotated[int, Between(1, 9)]`."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"from {self.low} to {self.high}"


@dataclass(frozen=True)
class Entries:
    """The limits of a list's or tuple's length, both included, as in `Annotated[list[int], Entries(1, 9)]`."""

    fewest: int
    most: int

    def __contains__(self, value: Sized) -> bool:
        return self.fewest <= len(value) <= self.most

    def __str__(self) -> str:
        return f"of {self.fewest} to {self.most} entries"


@dataclass(frozen=True)
class Matching:
    """A test that a text has to pass; `expected` says in words which texts do."""

    test: Callable[[str], bool]
    expected: str

    def __contains__(self, value: str) -> bool:
        return self.test(value)

    def __str__(self) -> str:
        return f"that is {self.expected}"


def decode(kind: type[T], value: Any) -> T:
    """Return `value`, a result of `json.loads`, as an instance of the type `kind`.

    `kind` is a dataclass, which is built, a `TypedDict`, for which the dictionary itself is returned, or made of
    `bool`, `int`, `float`, `str`, `None`, `Any`, `Literal`, unions, `list`, `tuple` and `dict` with text as keys;
    `Annotated` narrows numbers by `Between`, lists by `Entries` and texts by `Matching`. A whole number passes for a
    float, true and false do not pass for numbers. Every field of an object must be there, and no other.

    Raises:
        JsonFault: names every offence with the path of its key, the first `MAX_FAULTS` of them.
    """
    faults: list[str] = []
    result = _decode(kind, value, "", faults)
    if faults:
        more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
        raise JsonFault("; ".join(faults[:MAX_FAULTS]) + more)
    return result


def _decode(kind: Any, value: Any, at: str, faults: list[str]) -> Any:
    """Return `value` as `kind`; what is wrong with it is added to `faults`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is NotRequired:
        return _decode(arguments[0], value, at, faults)
    if kind is Any:
        return value
    if origin is Annotated:
        return _narrowed(arguments[0], arguments[1:], value, at, faults)
    if origin in (Union, types.UnionType):
        return _one_of(kind, value, at, faults)
    if _has_fields(kind):
        return _object(kind, value, at, faults)
    if origin is dict and isinstance(value, dict):
        return {key: _decode(arguments[1], item, _path(at, key), faults) for key, item in value.items()}
    if origin in (list, tuple) and isinstance(value, list):
        return _sequence(origin, arguments, value, at, faults)
    if origin is Literal and any(value == choice and type(value) is type(choice) for choice in arguments):
        return value
    if kind is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is kind and (kind is not float or math.isfinite(value)):
        return value
    faults.append(_offence(kind, value, at))
    return value


def _narrowed(kind: Any, limits: tuple[Any, ...], value: Any, at: str, faults: list[str]) -> Any:
    inner: list[str] = []
    result = _decode(kind, value, at, inner)
    is_outside = not inner and any(result not in limit for limit in limits)
    if is_outside or inner == [_offence(kind, value, at)]:
        inner = [_offence(Annotated[kind, *limits], value, at)]  # says the limits too
    faults += inner
    return result


def _one_of(union: Any, value: Any, at: str, faults: list[str]) -> Any:
    """Return `value` as the first kind of `union` that it can be."""
    for kind in get_args(union):
        inner: list[str] = []
        result = _decode(kind, value, at, inner)
        if not inner:
            return result
    faults.append(_offence(union, value, at))
    return value


def _has_fields(kind: Any) -> bool:
    """Tell whether it is a dataclass or a `TypedDict`."""
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or is_typeddict(kind))


def _object(kind: Any, value: Any, at: str, faults: list[str]) -> Any:
    if not isinstance(value, dict):
        faults.append(_offence(kind, value, at))
        return value
    fields = get_type_hints(kind, include_extras=True)
    required = getattr(kind, "__required_keys__", fields)
    if missing := [name for name in fields if name in required and name not in value]:
        faults.append(f"{at or 'it'} lacks {', '.join(missing)}")
    faults += [f"{_path(at, key)} is not known to this version" for key in value if key not in fields]
    there = {
        name: _decode(hint, value[name], _path(at, name), faults) for name, hint in fields.items() if name in value
    }
    return there if faults or is_typeddict(kind) else kind(**there)


def _sequence(origin: Any, kinds: tuple[Any, ...], value: list[Any], at: str, faults: list[str]) -> Any:
    if origin is list or kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        faults.append(f"{at or 'it'} has {len(value)} entries, expected {len(kinds)}")
        return value
    items = enumerate(zip(kinds, value, strict=True))
    return origin(_decode(kind, item, f"{at}[{index}]", faults) for index, (kind, item) in items)


def _path(at: str, key: str) -> str:
    name = key if len(key) <= _MAX_SHOWN else f"{key[:_MAX_SHOWN]}..."
    name = name if name.isprintable() else repr(name)
    return f"{at}.{name}" if at else name


def _offence(kind: Any, value: Any, at: str) -> str:
    return f"{at or 'it'} is {quoted(value)}, expected {_words(kind)}"


def quoted(value: Any) -> str:
    """Return a JSON value as messages quote it: shortened, and never nested."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return repr(value if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]}...")
        case int() if abs(value) >= 10**_MAX_SHOWN:
            return f"a number of more than {_MAX_SHOWN} digits"
        case int() | float():
            return str(value)
        case dict():
            return f"an object of {len(value)} entries"
        case _:
            return f"a list of {len(value)} entries"


def _words(kind: Any) -> str:
    """Return what `kind` is called in messages."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return " ".join([_words(arguments[0]), *map(str, arguments[1:])])
    if origin in (Union, types.UnionType):
        return " or ".join(_words(argument) for argument in arguments)
    if origin is Literal:
        return " or ".join(quoted(argument) for argument in arguments)
    if _has_fields(kind):
        return f"an object ({kind.__name__})"
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", dict: "an object"}
    names |= {list: "a list", tuple: "a list", type(None): "null"}
    return names[origin or kind]
