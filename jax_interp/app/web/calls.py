"""What a call of the page or of the API may hold: as many values as its function takes, and uploaded files alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jax_interp.app.uploads import is_upload
from jax_interp.errors import UsageError

VALUES = {"plan": 2, "submit": 2, "progress": 1, "cancel": 1, "jobs": 0}
"""How many values each function of the API takes; of another number Gradio says nothing that helps."""


def checked_call(body: bytes, path: str, uploads: Path) -> bytes:
    """Return the JSON of a call to the address `path` as it was looked at, whatever stood in it twice.

    Gradio would copy any file of this machine, and fetch any address, that a call names: where it is mounted in another
    application it does not check that the file was uploaded.

    Raises:
        UsageError: it is no JSON, names a file that is not in the folder `uploads`, or has another number of values
            than the function of the API that `path` names.
    """
    try:
        called = json.loads(body) if body else None
        body = json.dumps(called).encode() if body else b""
    except (ValueError, RecursionError):
        raise UsageError("expected a call as JSON") from None
    for named in _paths_in(called):
        if not is_upload(named, uploads):
            raise UsageError("a call names a file that was not uploaded here; upload it again")
    function = path.rpartition("/call/")[2]
    values = called.get("data") if isinstance(called, dict) else None
    if (takes := VALUES.get(function)) is not None and not (isinstance(values, list) and len(values) == takes):
        raise UsageError(f'{function} takes {takes} value(s), as {{"data": [...]}}; docs/app.md says which')
    return body


def _paths_in(called: Any) -> Iterator[Any]:
    """Yield the value of every key "path" in JSON values, however deep it lies."""
    left = [called]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if "path" in value:
                yield value["path"]
            left += value.values()
        elif isinstance(value, list):
            left += value
