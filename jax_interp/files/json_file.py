"""The reading of this program's JSON files, by one function that trusts nothing in them."""

import json
import math
import re
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from jax_interp.files.json_schema import JsonFault, decode, quoted

__all__ = ["MAX_BYTES", "JsonFault", "parse_json", "read_json"]

T = TypeVar("T")

MAX_BYTES = 1 << 22
"""The largest file in bytes that is read; the manifest of the largest network takes a tenth of it."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: Path, kind: type[T], max_bytes: int = MAX_BYTES) -> T:
    """Read the JSON object in `path` as `kind`, a type that `json_schema.decode` takes.

    Raises:
        FileNotFoundError: there is no such file, or it is a link to none.
        JsonFault: it cannot be read, is larger than `max_bytes`, is not JSON as `parse_json` has it, or is not `kind`;
            all offences of a kind are named.
    """
    return decode(kind, parse_json(_content(path, max_bytes)))


def parse_json(content: bytes | str) -> Any:
    """Return the value of a JSON text, which must be strict JSON.

    It is stricter than the standard library, so that every other reader gets the same value: the text is UTF-8, an
    object has no key twice, and there is no NaN, no infinity (nor a number that becomes one), no half of a surrogate
    pair, and no nesting that a recursive reader cannot follow.

    Raises:
        JsonFault: the text breaks one of these rules.
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        values = json.loads(
            text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant, parse_float=_finite
        )
        if _SURROGATE.search(text):
            json.dumps(values, ensure_ascii=False).encode()
    except JsonFault:
        raise
    except UnicodeDecodeError as error:
        raise JsonFault(f"it is not UTF-8 at byte {error.start}") from None
    except UnicodeEncodeError:
        raise JsonFault("it has half of a surrogate pair, which is no character") from None
    except json.JSONDecodeError as error:
        raise JsonFault(f"it is not JSON ({error.msg} at line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise JsonFault("its values are nested too deeply") from None
    except ValueError:  # a whole number of more digits than Python converts
        raise JsonFault("it has a number of too many digits") from None
    return values


def _content(path: Path, max_bytes: int) -> bytes:
    try:
        status = path.stat()
        # What is not a file may never end, or keep whoever opens it waiting.
        if not stat.S_ISREG(status.st_mode):
            raise JsonFault("it is a folder" if stat.S_ISDIR(status.st_mode) else "it is not a file")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise JsonFault(f"it cannot be read ({error.strerror})") from None
    if len(content) > max_bytes:
        raise JsonFault(f"it is larger than {max_bytes} bytes")
    return content


def _without_repeats(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        [(repeated, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise JsonFault(f"it has the key {quoted(repeated)} twice in one object")
    return values


def _refuse_constant(name: str) -> Any:
    raise JsonFault(f"it has {name}, which is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise JsonFault(f"it has {text[:40]}, which is too large for a number")
    return value
