"""Locks that allow one writer at a time and vanish with their process, each with a note that says who holds it.

The lock is `flock`'s: the system releases it when the process ends, for whatever reason. The note is for people:
"held by process 71 on node4 since 2026-11-25 19:22:27 UTC". A note that outlives its process locks nothing.
"""

import errno
import fcntl
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from jax_interp.errors import UsageError

_NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EBADF)
"""Errors of network file systems without locks, where the user has to see to it that only one process writes."""

_PAUSES = (0.02, 0.05, 0.1)
"""Seconds between tries, which are needed because `holder_of` locks for a moment."""

_NOTE = re.compile(rb"jax-interp: held by (process [0-9]+ on [\w.-]+ since [0-9: -]+UTC)\n")
_NOTE_BYTES = 512
"""Bytes that are read of a note; no note has as many."""


Refusal = Callable[[str], Exception]
"""A function that makes the error for a lock that another process holds.

Its argument says who that is: `lambda holder: MediaError(f"is being written by {holder}")` is one, called with
"process 71 on node4 since 2026-11-25 19:22:27 UTC".
"""


def flock(handle: int) -> bool:
    """Lock an open file or folder until it is closed, without waiting; returns False where there are no locks.

    Raises:
        BlockingIOError: another process has locked it, or this one has, through another handle.
    """
    for pause in (*_PAUSES, None):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if pause is None:
                raise
            time.sleep(pause)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return False
        else:
            return True
    raise AssertionError("the last try returns or raises")


@contextmanager
def locked(handle: int, note: Path, refusal: Refusal) -> Iterator[None]:
    """Lock an open file or folder against other processes while the block lasts; the file `note` says who holds it.

    Where the note cannot be written, the lock holds without one. If another process holds it, `refusal` is raised.
    """
    _lock(handle, note, refusal)
    try:
        with _noted(note):
            yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)


@contextmanager
def lock_file(path: Path, refusal: Refusal) -> Iterator[bool]:
    """Lock the file `path` while the block lasts; it exists for this alone, is its own note, and is removed at the end.

    The value of the block is whether the file was there before, which means that a process was killed while it held
    the lock. If another process holds it, `refusal` is raised.

    Raises:
        UsageError: a file of another program has this name.
        OSError: the file cannot be created.
    """
    while True:
        handle, was_left = _open(path)
        try:
            _lock(handle, path, refusal)
            if not _is_at(handle, path):
                continue  # whoever held it has removed it meanwhile, and others cannot see a lock on it
            with _noted(path):
                yield was_left
            return
        finally:
            os.close(handle)


def lock_path(target: Path) -> Path:
    """Return the lock file of those who write `target`."""
    return target.with_name(f".{target.name}.lock")


def holder_of(path: Path) -> str | None:
    """Return who holds the lock file `path`, in the words that a `Refusal` is given; None if nobody does."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(path)
    except OSError:
        return None
    finally:
        os.close(handle)
    return None


def _lock(handle: int, note: Path, refusal: Refusal) -> None:
    try:
        flock(handle)
    except BlockingIOError:
        raise refusal(_holder(note)) from None


def _open(path: Path) -> tuple[int, bool]:
    """Return the lock file, open, and whether it was there."""
    while True:
        with suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL, 0o666), False
        if not _is_note(path):
            raise UsageError(f"{path}: this name is needed while writing; move what is there")
        with suppress(FileNotFoundError):
            return _open_existing(path), True


def _open_existing(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except PermissionError:  # another user's process was killed; network file systems cannot lock this handle
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)


def _is_at(handle: int, path: Path) -> bool:
    """Tell whether the open file is still the one that has the name `path`."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


@contextmanager
def _noted(note: Path) -> Iterator[None]:
    """Say in `note` that this process is the holder, while the block lasts."""
    with suppress(OSError):
        if _is_note(note):
            since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            text = f"jax-interp: held by process {os.getpid()} on {socket.gethostname()} since {since}\n"
            handle = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode())
    try:
        yield
    finally:
        with suppress(OSError):
            if _is_note(note):
                note.unlink()


def _holder(note: Path) -> str:
    """Return who the note says the holder is."""
    found = _NOTE.fullmatch(_read_beginning(note) or b"")
    return found[1].decode() if found else "which left no note of itself"


def _is_note(path: Path) -> bool:
    """Tell whether `path` is a note, is empty (its process was killed before it wrote one) or is missing."""
    found = _read_beginning(path)
    return found is None or not found or found.startswith(b"jax-interp: ")


def _read_beginning(path: Path) -> bytes | None:
    """Return how a file begins, None if it is missing; what is not a readable file counts as another program's."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:
        return b"?"
    try:
        return os.read(handle, _NOTE_BYTES) if stat.S_ISREG(os.fstat(handle).st_mode) else b"?"
    except OSError:
        return b"?"
    finally:
        os.close(handle)
