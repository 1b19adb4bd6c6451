"""The reading of numpy's archives (`.npz`) that may be damaged, or that somebody else made."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np


class ArchiveFault(ValueError):
    """An archive cannot be read; the text says why, without its path."""


@contextmanager
def opened_archive(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Yield the entries of an archive by name, each of which is read when it is asked for; no pickle is.

    What numpy, zipfile and zlib raise for a damaged file is passed on. Of an entry that is no array numpy gives bytes.
    """
    # Opened here, because numpy does not close a file that is no archive.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        yield stored


def read_archive(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Return the arrays of an archive by name: those of `names`, or all of them if no name is given.

    Raises:
        ArchiveFault: the file is absent or damaged, or an entry is absent or no array.
    """
    try:
        with opened_archive(path) as stored:
            found = {name: stored[name] for name in names or stored}
    except MemoryError:  # which tells of the machine, not of the file
        raise
    except Exception as error:  # numpy, zipfile and zlib have about ten of their own
        raise ArchiveFault(f"{type(error).__name__}: {error}") from error
    for name, array in found.items():
        if not isinstance(array, np.ndarray):
            raise ArchiveFault(f"{name} is no array")
    return found
