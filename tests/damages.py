"""What can be wrong with a small file: damages of any file, of any JSON text, and of every value in it."""

import errno
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

JsonPath = tuple[str | int, ...]

HOSTILE = "a\x1b]0;title\x07\u202eb"
"""A text that must not reach a terminal as it is."""


def refuse_reading(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let opening `path` fail as a file without permission does; root, as whom CI tests, may read such a file."""
    opened = Path.open

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)


def _rewritten(content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: _replace(path, content(path.read_bytes()))


def _replace(path: Path, content: bytes) -> None:
    path.unlink()  # never through a link into what is shared
    path.write_bytes(content)


def _in_place_of(path: Path, make: Callable[[Path], Any]) -> None:
    path.unlink()
    make(path)


FILE_DAMAGES: dict[str, Callable[[Path], None]] = {
    "missing": lambda path: path.unlink(),
    "empty": _rewritten(lambda content: b""),
    "half": _rewritten(lambda content: content[: len(content) // 2]),
    "cut": _rewritten(lambda content: content.rstrip()[:-1]),
    "longer": _rewritten(lambda content: content + b"}"),
    "zeros": _rewritten(lambda content: bytes(len(content))),
    "binary": _rewritten(lambda content: random.Random(0).randbytes(len(content))),
    "sparse": lambda path: os.truncate(path, 1 << 30),
    "folder": lambda path: _in_place_of(path, Path.mkdir),
    "broken link": lambda path: _in_place_of(path, lambda path: path.symlink_to("nowhere")),
    "endless link": lambda path: _in_place_of(path, lambda path: path.symlink_to(path.name)),
    "pipe": lambda path: _in_place_of(path, os.mkfifo),
}
"""By name; each is applied to a file, which it may replace. A "pipe" keeps a careless reader waiting for ever."""

TEXT_DAMAGES: dict[str, Callable[[Path], None]] = {
    "null": _rewritten(lambda content: b"null"),
    "number": _rewritten(lambda content: b"3"),
    "list": _rewritten(lambda content: b"[%s]" % content),
    "no entries": _rewritten(lambda content: b"{}"),
    "not UTF-8": _rewritten(lambda content: content.replace(b'"', b'"\xff', 1)),
    "UTF-16": _rewritten(lambda content: content.decode().encode("utf-16")),
    "byte order mark": _rewritten(lambda content: b"\xef\xbb\xbf" + content),
    "NaN": _rewritten(lambda content: content.replace(b":", b': NaN, "more":', 1)),
    "infinite": _rewritten(lambda content: content.replace(b":", b': 1e999, "more":', 1)),
    "digits": _rewritten(lambda content: content.replace(b":", b': %s, "more":' % (b"9" * 5000), 1)),
    "twice": _rewritten(lambda content: content.replace(b"{", b"{%s," % content.strip()[1:-1], 1)),
    "surrogate": _rewritten(lambda content: content.replace(b"{", b'{"\\ud800": 1,', 1)),
    "nested": _rewritten(lambda content: b"[" * 200_000),
    "nested objects": _rewritten(lambda content: b'{"a":' * 200_000),
    "control character": _rewritten(lambda content: content.replace(b'"', b'"\x1b', 1)),
    "hostile key": _rewritten(lambda content: content.replace(b"{", b"{%s: 1," % json.dumps(HOSTILE).encode(), 1)),
}
"""Of a JSON object, by name."""

WRONG_TYPES = (None, True, 2.5, [], {}, [[1]], "text")
WRONG_VALUES = (-1, 0, 10**30, 1e308, "", HOSTILE, "9" * 3000)
"""Of which some may be right for some keys."""


def keys_of(values: Any, at: JsonPath = ()) -> Iterator[JsonPath]:
    """Where every value is; of long lists and objects, whose entries are alike, the first entry."""
    if isinstance(values, dict):
        there = list(values.items())
        for key, value in there[:1] if len(there) > 16 else there:
            yield (*at, key)
            yield from keys_of(value, (*at, key))
    elif isinstance(values, list) and values:
        yield (*at, 0)
        yield from keys_of(values[0], (*at, 0))


def changed(values: Any, at: JsonPath, value: Any) -> Any:
    """A copy of `values` with another value there."""
    copy = json.loads(json.dumps(values))
    _holder(copy, at)[at[-1]] = value
    return copy


def without(values: Any, at: JsonPath) -> Any:
    """A copy of `values` that lacks what is there."""
    copy = json.loads(json.dumps(values))
    del _holder(copy, at)[at[-1]]
    return copy


def with_more(values: Any, at: JsonPath) -> Any:
    """A copy of `values` that has one key more in the object there."""
    copy = json.loads(json.dumps(values))
    _holder(copy, (*at, ""))["more"] = 1
    return copy


def objects_of(values: Any) -> Iterator[JsonPath]:
    """Where every object is."""
    yield ()
    for at in keys_of(values):
        if isinstance(_holder(values, (*at, "")), dict):
            yield at


def _holder(values: Any, at: JsonPath) -> Any:
    for key in at[:-1]:
        values = values[key]
    return values
