"""The checks and the lock of a file that a command is told to write, so that no input and no other run is damaged."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from jax_interp.errors import MediaError, UsageError
from jax_interp.files.lock import holder_of, lock_file, lock_path
from jax_interp.files.names import check_lengths
from jax_interp.files.overlap import Input, Output, find_overlaps
from jax_interp.files.partial import PartialOutput, remove_leftovers
from jax_interp.media.output import as_media_error
from jax_interp.media.pictures.reader import list_pictures

MAX_SHOWN = 10
"""The number of faults that a message names at most."""


def check_destination(path: Path, flag: str, read: Iterable[Input], *, overwrite: bool) -> None:
    """Check a single file that a command was told by `flag` to write; `overwrite` lets it replace one.

    Raises:
        UsageError: it is one of `read`, would replace what is there, is a folder or a device, or its name is too long.
        MediaError: another run is writing `path`.
    """
    check_lengths(flag, path, [PartialOutput(path).path, lock_path(path)])
    refuse(find_overlaps([Output(path, flag)], list(read)))
    if fault := why_no_file(path):
        raise UsageError(f"{flag} {fault}")
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{flag} {path}: is there already; choose another name, or pass --overwrite to replace it")
    refuse_locked(path)


@contextmanager
def locked_result(path: Path) -> Iterator[bool]:
    """Lock a result against other runs while the block lasts, and remove what killed runs left of it half-written.

    The value of the block is whether a run was killed while it held the lock.

    Raises:
        MediaError: another run, which the message names, holds the lock; or the folder cannot be written to.
        UsageError: another program's file has the name of the lock.
    """
    with ExitStack() as stack:
        with as_media_error(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            was_left = stack.enter_context(lock_file(lock_path(path), partial(_is_locked, path)))
        remove_leftovers(path)
        yield was_left


def refuse_locked(path: Path) -> None:
    """Raise `MediaError` if another run is writing `path` at this moment."""
    if (holder := holder_of(lock_path(path))) is not None:
        raise _is_locked(path, holder)


def clip_files(inputs: Iterable[Path], name: str) -> list[Input]:
    """Return the inputs of a clip that `media.reader.open_frames` takes; messages call each one `name`."""
    return [Input(path, name, files=pictures_in(path) if path.is_dir() else ()) for path in inputs]


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures in `folder`; the list is empty where opening the folder will report an error."""
    try:
        return list_pictures(folder)
    except MediaError:
        return []


def why_no_file(path: Path) -> str | None:
    """Return why `path` cannot be replaced by a file, if it is a folder or a device."""
    if path.exists() and not path.is_file():
        return f"{path}: is a folder or a device, where a file is to be written; choose another name"
    return None


def refuse(faults: Sequence[str]) -> None:
    """Raise `UsageError` if there are `faults`, naming them."""
    if faults:
        more = f"\nand {len(faults) - MAX_SHOWN} more" if len(faults) > MAX_SHOWN else ""
        raise UsageError("\n".join(faults[:MAX_SHOWN]) + more)


def _is_locked(path: Path, holder: str) -> MediaError:
    return MediaError(
        f"{path}: is being written by another run ({holder}); wait until it is done, or choose another name"
    )
