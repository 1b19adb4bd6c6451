"""Reading files of JSON lines, one object a line; every fault is reported with the line where it begins."""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from jax_interp.byte_sizes import format_bytes

MAX_FILE_BYTES = 2**26
"""The largest number of bytes of a file."""
MAX_LINES = 100_000
MAX_LINE_BYTES = 2**20
"""The largest number of bytes of a line."""
_MAX_LOOK_AHEADS = 20
"""The number of faults after which a broken line is no longer parsed together with the lines that follow it."""
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
# A file without a byte order mark begins with an ASCII character among zeros.
_WIDE_START = re.compile(rb"[\t\n\r -~]\0|\0{1,3}[\t\n\r -~]")
_EXPECTED = "expected one object a line"


@dataclass
class JsonLines:
    """The contents of a file by line number from 0; blank lines have neither an object nor a fault."""

    objects: dict[int, dict[str, Any]] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)


class _Unfinished(ValueError):
    """The fault of a line on which an object or list begins that does not end on it."""


def read_json_lines(path: Path) -> JsonLines:
    """Read the objects of the file at `path`, which is UTF-8, with or without byte order marks.

    A line ends with a line feed, with or without a carriage return before it, and with nothing else: U+2028, U+0085 and
    ASCII's separators are part of the strings that contain them.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not text in UTF-8, or exceeds `MAX_FILE_BYTES` or `MAX_LINES`.
    """
    lines = _read_lines(path)
    read = JsonLines()
    number = 0
    while number < len(lines):
        here, number = number, number + 1
        try:
            text = _decode(lines[here])
            if text.strip():
                read.objects[here] = _parse(text)
        except _Unfinished as error:
            value, after = _look_ahead(lines, here) if len(read.faults) < _MAX_LOOK_AHEADS else (None, number)
            read.faults[here] = str(error) if value is None else _over_lines(value, after)
            number = after
        except ValueError as error:
            read.faults[here] = str(error)
    return read


def _read_lines(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"is larger than {format_bytes(MAX_FILE_BYTES, 'MiB', digits=0)}")
    if content.startswith(_WIDE_MARKS) or _WIDE_START.match(content):
        raise ValueError("is UTF-16 or UTF-32, expected UTF-8; save it as UTF-8")
    if content.count(b"\n") > MAX_LINES:
        raise ValueError(f"has more than {MAX_LINES} lines")
    return content.split(b"\n")


def _decode(line: bytes) -> str:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"is longer than {format_bytes(MAX_LINE_BYTES, 'MiB', digits=0)}")
    if b"\0" in line:
        raise ValueError(f"a zero byte at column {line.index(0) + 1}, which is no text")
    try:
        # a byte order mark may also begin a later line, where files were concatenated
        return line.removesuffix(b"\r").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte 0x{line[error.start]:02X} at column {error.start + 1} is not UTF-8; save the file as UTF-8"
        ) from None


def _parse(text: str) -> dict[str, Any]:
    try:
        # not strict: strings may contain unescaped control characters
        value = json.loads(
            text, strict=False, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=float
        )
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise _explain(text, error) from None
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half of a surrogate pair ({error.object[error.start]!a}), which is no text") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if isinstance(value, list):
        raise ValueError(f"a list; {_EXPECTED}, without brackets and commas around them")
    if not isinstance(value, dict):
        raise ValueError(f"no object; {_EXPECTED}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in values if names.count(name) > 1)
        raise ValueError(f"{twice[:50]!r} is there twice")
    return values


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _explain(text: str, error: json.JSONDecodeError) -> ValueError:
    """Express the parser's error in terms of lines, commas and brackets, which are the usual causes."""
    before, behind = text[: error.pos].rstrip(), text[error.pos :].lstrip()
    if error.msg == "Extra data":
        if behind.startswith(","):
            return ValueError(f"a comma behind the object; {_EXPECTED}, and nothing between them")
        more = "another object" if behind.startswith("{") else "something else"
        return ValueError(f"{more} behind the first at column {error.pos + 1}; {_EXPECTED}")
    if text.lstrip()[:1] in ("{", "[") and (not behind or error.msg.startswith("Unterminated string")):
        return _Unfinished(f"an object that does not end on its line; {_EXPECTED}")
    if (before.endswith(",") and behind[:1] in ("}", "]")) or error.msg.startswith("Illegal trailing comma"):
        return ValueError(f"a comma before the closing bracket at column {error.pos + 1}")
    return ValueError(f"{error.msg} at column {error.pos + 1}; {_EXPECTED}")


def _look_ahead(lines: list[bytes], first: int) -> tuple[Any, int]:
    """Return the value that begins on line `first` and ends on a later line, and the number of the line after it.

    If no value ends, return None and the number of the next line on which an object may begin.
    """
    text = b"\n".join(_window(lines, first)).decode("utf-8", "replace")
    try:
        value, end = json.JSONDecoder(strict=False, parse_int=float).raw_decode(text.lstrip("\ufeff \t\r"))
    except (ValueError, RecursionError):
        behind = range(first + 1, len(lines))
        inside = takewhile(lambda number: not lines[number].lstrip().startswith((b"{", b"[")), behind)
        return None, first + 1 + sum(1 for _ in inside)
    return value, first + 1 + text.lstrip("\ufeff \t\r").count("\n", 0, end)


def _window(lines: list[bytes], first: int) -> Iterator[bytes]:
    """Yield the lines from `first` on, as long as together they have at most `MAX_LINE_BYTES` bytes."""
    size = 0
    for number in range(first, len(lines)):
        size += len(lines[number]) + 1
        if size > MAX_LINE_BYTES:
            return
        yield lines[number]


def _over_lines(value: Any, after: int) -> str:
    if isinstance(value, list):
        return f"a list up to line {after}; {_EXPECTED}, without brackets and commas around them"
    return f"one object over several lines, up to line {after}; {_EXPECTED}"
