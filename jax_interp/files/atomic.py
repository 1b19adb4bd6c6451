"""Atomic writes: readers see a file complete or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jax_interp.files.partial import PartialOutput, remove_leftovers


def write_atomically(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write `content` under a temporary name beside `path`, then rename it; leftovers of killed processes are removed.

    The file gets the permissions `mode`, less the umask.
    """
    with open_atomically(path, mode=mode) as file:
        file.write(content)


@contextmanager
def open_atomically(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Yield a file to write to, which becomes `path` when the block ends and is removed if an exception leaves it.

    Raises:
        OSError: it cannot be written; what was at `path` stays as it was.
    """
    remove_leftovers(path)
    partial = PartialOutput(path)
    try:
        file = partial.create_file(mode)
        yield file
        file.flush()
        os.fsync(file.fileno())  # a network file system says only now that its disk is full
        partial.publish()
    finally:
        partial.discard()
