"""JSON that somebody else wrote: a header, an index, a model's settings. Read within `limits`, or not at all."""

import json
from pathlib import Path
from typing import Any

from convert.formats.limits import MAX_JSON_VALUES, MAX_TEXT_BYTES


def parse_foreign_json(text: bytes) -> dict[str, Any]:
    """Return the JSON object in `text`; its values may be of any kind, which the caller has to check.

    Raises:
        ValueError: it is not JSON in UTF-8, no object, has a key twice, or is larger than the limits; says which.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError(f"it has {len(text):,} bytes, more than the {MAX_TEXT_BYTES:,} that are read")
    # Every value but the first comes after one of these; those within texts only make the count too high.
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES:
        raise ValueError(f"it has more than {MAX_JSON_VALUES:,} values, the most that are read")
    try:
        values = json.loads(str(text, "utf-8-sig"), object_pairs_hook=_without_repeats)
    except RecursionError:
        raise ValueError("its arrays and objects are nested too deep") from None
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    return values


def read_foreign_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file `path`.

    Raises:
        ValueError: as `parse_foreign_json`.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return parse_foreign_json(file.read(MAX_TEXT_BYTES + 1))


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key appears twice")
    for key in values:
        key.encode()  # an escaped half of a UTF-16 pair is no text
    return values
