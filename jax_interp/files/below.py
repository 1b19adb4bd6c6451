"""The files below a folder, while others add and remove some."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path


def regular_files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the regular files below `folder`, however deep; links are none, and one that vanishes is left out."""
    for path in folder.rglob("*"):
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISREG(found.st_mode):
            yield path, found


def size_below(folder: Path) -> int:
    """Return the bytes of all regular files below `folder`."""
    return sum(found.st_size for _, found in regular_files(folder))
