"""Folders that appear complete or not at all: they are written under another name and renamed at the end."""

import errno
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jax_interp.byte_sizes import format_bytes
from jax_interp.errors import CheckpointError
from jax_interp.files.lock import locked
from jax_interp.runtime.checkpoint.finding import partial_folder

LOCK_NOTE = ".lock"
"""The note in a folder that is being written to, which says by whom."""


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Lock `folder` against other conversions while the block lasts. It is created if need be, and removed if it stays
    empty.

    Raises:
        CheckpointError: it cannot be made, or another conversion is writing to it.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written to ({error.strerror}); choose another folder") from error
    try:
        with locked(
            handle,
            folder / LOCK_NOTE,
            lambda holder: CheckpointError(
                f"{folder}: another jax-interp is writing to it ({holder}); wait until it is done"
            ),
        ):
            yield
    finally:
        if is_new:
            _remove_if_empty(folder)
        os.close(handle)


@contextmanager
def replace_atomically(target: Path) -> Iterator[Path]:
    """Yield a folder to write to, which replaces `target` when the block ends well and is removed when it does not.

    Raises:
        CheckpointError: the disk is full, or the folder cannot be written to.
    """
    work = partial_folder(target)
    parent_is_new = not target.parent.exists()
    try:
        work.mkdir(parents=True)
        yield work
        _swap(work, target)
    except (OSError, ValueError) as error:
        if (number := _system_error(error)) is None:
            raise
        raise CheckpointError(f"{target}: {_why_unwritten(number, error)}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if parent_is_new:
            _remove_if_empty(target.parent)


def clear_leftovers(target: Path) -> bool:
    """Remove what an interrupted run left of `target`, and tell whether there was anything."""
    work, replaced = partial_folder(target), _replaced_folder(target)
    found = work.exists() or replaced.exists()
    if replaced.exists() and not target.exists():
        replaced.rename(target)
    for leftover in (work, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    return found


def refuse_foreign_files(target: Path, own_names: Collection[str]) -> None:
    """Raise `CheckpointError` if `target` has anything in it but `own_names`: replacing it would destroy that."""
    strangers = sorted({path.name for path in target.iterdir()} - {*own_names}) if target.is_dir() else [target.name]
    if strangers:
        more = ", ..." if len(strangers) > 3 else ""
        raise CheckpointError(
            f"{target}: is there already and holds what this program did not write there"
            f" ({', '.join(strangers[:3])}{more}); choose another --output-dir"
        )


def check_space(folder: Path, needed: int) -> None:
    """Raise `CheckpointError` unless `needed` bytes are free where `folder` is or will be."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise CheckpointError(
            f"{folder}: {format_bytes(needed)} are needed and {format_bytes(free)} are free; free some space, choose"
            " another folder, or take fewer networks at a time with --components"
        )


def _swap(work: Path, target: Path) -> None:
    if not target.exists():
        work.rename(target)
        return
    replaced = _replaced_folder(target)
    target.rename(replaced)
    work.rename(target)
    shutil.rmtree(replaced)


def _replaced_folder(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _system_error(error: OSError | ValueError) -> int | None:
    """Return the `errno` of an error, which TensorStore reports within the message of a `ValueError`."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    if found := re.search(r"os_error_code='([0-9]+)'", str(error)):
        return int(found[1])
    return errno.ENOSPC if os.strerror(errno.ENOSPC) in str(error) else None


def _why_unwritten(number: int, error: OSError | ValueError) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; nothing of it was kept. Free some space, or choose another folder"
    if number == errno.EFBIG:
        return (
            "a file would be larger than this process or this disk allows; nothing of it was kept. Raise the limit"
            " (`ulimit -f`), or choose another folder"
        )
    return f"cannot be written ({error if isinstance(error, OSError) else os.strerror(number)}); nothing of it was kept"
