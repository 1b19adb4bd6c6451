"""The checks that hold for the values of all options, made on the typed strings before any becomes a path."""

import errno
import os
from collections.abc import Mapping
from typing import Any

from jax_interp.errors import UsageError
from jax_interp.files.names import check_text

TEXTS = ("prompt", "negative_prompt", "upsampler_instruction")
"""The parameters that are texts for people, which may be empty, and longer than a file's name."""


def check_values(given: Mapping[str, Any], spellings: Mapping[str, str]) -> None:
    """Check the values of options and arguments, by the names of their parameters; `spellings` has their flags.

    Raises:
        UsageError: a value is empty, which as a path would mean the current folder; is not UTF-8, so that no record
        could store it; or has a part that is longer than file names can be.
    """
    for name, values in given.items():
        flag = spellings.get(name, name)
        for value in values if isinstance(values, list | tuple) else [values]:
            if not isinstance(value, str):
                continue  # it is a switch, or was not given
            check_text(flag, value)
            if name in TEXTS:
                continue
            if not value:
                raise UsageError(f'{flag} "": is empty; give a value or leave it out ("." is the current folder)')
            if _is_too_long(value):
                raise UsageError(f"{flag} {value[:40]}…: no file can have a name of {len(os.fsencode(value))} bytes")


def _is_too_long(value: str) -> bool:
    try:
        os.lstat(value)
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    except ValueError:
        return False
    return False
