"""Checks that names fit the file system and can be encoded as text."""

import os
from collections.abc import Iterable
from pathlib import Path

from jax_interp.errors import UsageError


def check_text(name: str, text: str) -> None:
    """Raise `UsageError` if `text`, the value of the option `name`, is not valid Unicode and cannot be encoded.

    Arguments whose bytes are not UTF-8, and half of a surrogate pair in JSON, arrive as such texts.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{name} {text!a}: is not valid UTF-8; give it as UTF-8, which for a file may mean to rename it"
        ) from None


def check_lengths(name: str, target: Path, siblings: Iterable[Path]) -> None:
    """Raise `UsageError` if the file system has no room for the names of `siblings`, which are written beside `target`.

    They contain the stem of `target`, which the message, calling it `name`, asks to shorten. Lengths are in bytes: a
    letter outside of ASCII has two to four.
    """
    folder = next(parent for parent in target.absolute().parents if _is_folder(parent))
    limit, whole = os.pathconf(folder, "PC_NAME_MAX"), os.pathconf(folder, "PC_PATH_MAX") - 1
    for part in target.absolute().parent.parts:
        if (size := _size(part)) > limit:
            raise UsageError(f"{name}: the folder {part[:40]}… has a name of {size} bytes; {limit} are possible there")
    longest = max(siblings, key=lambda path: _size(path.name))
    over = max(_size(longest.name) - limit, _size(longest.absolute()) - whole)
    if over > 0:
        raise UsageError(
            f"{name}: {target.stem[:40]}… has {_size(target.stem)} bytes, {over} more than there is room for, since"
            f" names are longer while their files are written (….{longest.name[-16:]}); choose a shorter one"
        )


def check_folder(flag: str, folder: Path) -> None:
    """Raise `UsageError`, naming `flag`, if `folder` cannot be made or used because there is a file in its way."""
    for path in (folder, *folder.parents):
        if os.path.lexists(path) and not _is_folder(path):
            raise UsageError(f"{flag} {folder}: {path} is a file, expected a folder; choose another name")


def _size(path: str | Path) -> int:
    return len(os.fsencode(path))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no folder can have that name
        return False
