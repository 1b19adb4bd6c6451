"""Files and folders that are written under a temporary name beside their target and renamed when complete."""

import os
import re
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from jax_interp.files.lock import flock


class PartialOutput:
    """An unfinished output: a file or folder at `path` (as `.film.mp4.6f1c0a52b7d3.part`) that will become `target`.

    The temporary name belongs to this run alone. The output is locked while it is written, so that
    `remove_leftovers` can tell it from what a killed process left.
    """

    def __init__(self, target: Path):
        self.target = target
        self.path = self._new_path()
        self._close: Callable[[], None] = _nothing
        self._is_there = False

    def create_file(self, mode: int = 0o666) -> BinaryIO:
        """Create the empty file with the permissions `mode` less the umask, and return it open for writing.

        It may also be written by its path; this object closes what it returned.
        """
        file = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb")
        self._is_there = True
        self._close = file.close
        if _hold(file.fileno()):
            return file
        self._choose_again()
        return self.create_file(mode)

    def create_folder(self) -> None:
        """Create the empty folder, and those above it."""
        self.path.mkdir(parents=True)
        self._is_there = True
        with suppress(FileNotFoundError):
            handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            self._close = partial(os.close, handle)
            if _hold(handle):
                return
        self._choose_again()
        self.create_folder()

    def publish(self) -> None:
        """Rename what was written to `target`, in place of a file or an empty folder there."""
        if self.path.is_dir():
            self.path.rename(self.target)
        else:
            self.path.replace(self.target)
        self._is_there = False
        self._release()

    def discard(self) -> None:
        """Remove what was written; after `publish` this does nothing."""
        self._release()
        if self._is_there:
            with suppress(OSError):
                _remove(self.path)
                self._is_there = False

    def _choose_again(self) -> None:
        self.discard()
        self.path = self._new_path()

    def _new_path(self) -> Path:
        return self.target.with_name(f".{self.target.name}.{uuid.uuid4().hex[:12]}.part")

    def _release(self) -> None:
        close, self._close = self._close, _nothing
        with suppress(OSError):  # what could not be written is being given up
            close()


def _hold(handle: int) -> bool:
    """Lock what was just made; False if another process came in between, and took it for a leftover."""
    try:
        flock(handle)
    except BlockingIOError:
        return False
    return os.fstat(handle).st_nlink > 0


def _nothing() -> None:
    """What there is to close before anything was made."""


def remove_leftovers(target: Path) -> None:
    """Remove what processes left that were killed while they wrote `target`; what others are writing now stays.

    Where the file system has no locks nobody can tell one from the other, and nothing is removed.
    """
    own = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{12}}\.part")
    try:
        found = [entry.name for entry in os.scandir(target.parent) if own.fullmatch(entry.name)]
    except OSError:
        return
    for name in found:
        with suppress(OSError):
            _remove_if_left(target.with_name(name))


def _remove_if_left(path: Path) -> None:
    kind = os.O_RDONLY | os.O_DIRECTORY if path.is_dir() else os.O_RDWR
    handle = os.open(path, kind | os.O_NOFOLLOW)
    try:
        if flock(handle):
            _remove(path)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
