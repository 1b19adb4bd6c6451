"""The check that a command's outputs are none of its inputs, whatever links, hard links or spellings they have.

Files are compared by device and inode, so that two names of one file are the same, whether through links, a folder
that is mounted twice, or a file system that ignores upper and lower case.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Identity = tuple[int, int]
"""The device and inode of a file."""

Key = TypeVar("Key")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Output:
    """An output: a file or folder that a command will create or replace."""

    path: Path
    name: str
    """What messages call it, as "--save-frames"."""
    replaces_folder: bool = False
    """Whether it is a folder, which is replaced with all that it holds."""


@dataclass(frozen=True)
class Input:
    """An input: a file or folder that a command reads."""

    path: Path
    name: str
    """What messages call it, as "the input"."""
    files: Sequence[Path] = ()
    """The files that are read, if it is a folder."""
    closed: bool = False
    """Whether it is a folder in which nothing else may be written."""


def find_overlaps(written: Sequence[Output], read: Sequence[Input]) -> list[str]:
    """Return a message for each output that is an input, would remove one, or is in a folder where it must not be.

    There are also messages for two outputs that are the same, or of which one would remove the other.
    """
    files = {_identity(path): item for item in read for path in (item.path, *item.files)}
    above = {_identity(folder): item for item in read for folder in _parents(item.path)}
    closed = {_identity(item.path): item for item in read if item.closed}
    for known in (files, above, closed):
        known.pop(None, None)
    faults = []
    for target in written:
        inside = map(_identity, _entries(target.path)) if target.replaces_folder else ()
        if found := files.get(_identity(target.path)):
            faults.append(f"{target.name} {target.path}: is {_called(found)}; choose another name")
        elif found := target.replaces_folder and (above.get(_identity(target.path)) or _first(inside, files)):
            faults.append(f"{target.name} {target.path}: would replace {_called(found)}; choose another name")
        elif found := _first(map(_identity, _parents(target.path)), closed):
            faults.append(f"{target.name} {target.path}: lies in {_called(found)}; choose another folder")
    return faults + list(_overlaps_within(written))


def _overlaps_within(written: Sequence[Output]) -> Iterator[str]:
    """These need not exist yet, so that only their paths can be compared."""
    taken: dict[Path, Output] = {}
    for target in written:
        if (other := taken.setdefault(_real(target.path), target)) is not target:
            yield f"{target.name} {target.path}: is also written as {other.name}; choose another name"
    for folder, target in taken.items():
        if target.replaces_folder and (lost := next((path for path in taken if folder in path.parents), None)):
            other = taken[lost]
            yield f"{target.name} {target.path}: would replace {other.name} ({other.path}); name another folder"


def _called(item: Input) -> str:
    return f"{item.name} ({item.path})"


def _first(keys: Iterable[Key], known: Mapping[Key, Item]) -> Item | None:
    """Return what is known under the first of `keys` under which anything is."""
    return next((known[key] for key in keys if key in known), None)


def _identity(path: Path) -> Identity | None:
    """None if there is nothing."""
    try:
        found = _real(path).stat()  # "new/../clip.mp4" exists as soon as the folder "new" is made
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _parents(path: Path) -> Iterator[Path]:
    """Yield the folders that `path` is in: as it is spelled, and with its links resolved."""
    yield from path.absolute().parents
    yield from _real(path).parents


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike `Path.resolve` it bears links that lead in a circle


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
