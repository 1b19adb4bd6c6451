"""What users upload: checked to be files that they sent, renamed to plain names, and moved into the job's folder."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

from jax_interp.app.results import JobFolder
from jax_interp.errors import UsageError
from jax_interp.files.below import regular_files
from jax_interp.files.private_folder import prepare_private_folder
from jax_interp.media.pictures.suffixes import PICTURE_SUFFIXES
from jax_interp.media.video.suffixes import VIDEO_SUFFIXES

TAKEN = (*VIDEO_SUFFIXES, ".m4v", ".ts", ".gif", *PICTURE_SUFFIXES)
"""The suffixes of files that are taken; what is inside is found out by reading it."""
MOST_FILES = 200
"""The pictures of one job, at most."""
ABANDONED = 3600.0
"""Seconds after which an upload of which no job was made is removed."""
_MOST_NAME = 80


def take_uploads(paths: Any, uploads: Path, most_bytes: int) -> list[Path]:
    """Return the uploaded files that `paths` name.

    Raises:
        UsageError: one of them is no file that was uploaded here, or they are too many or too large.
    """
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise UsageError("files: expected a list of uploaded files")
    if not paths:
        raise UsageError("nothing is uploaded: give a video, or two or more pictures")
    if len(paths) > MOST_FILES:
        raise UsageError(f"{len(paths)} files: {MOST_FILES} are taken at most; make a video of them")
    found = [_uploaded(path, uploads) for path in paths]
    if (size := sum(path.stat().st_size for path in found)) > most_bytes:
        raise UsageError(f"the upload has {size / 1e6:.0f} MB; {most_bytes / 1e6:.0f} MB are taken at most")
    return found


def _uploaded(path: str, uploads: Path) -> Path:
    """Return an uploaded file; raise `UsageError` if it is none, or neither a video nor a picture by its name."""
    if not is_upload(path, uploads):
        raise UsageError(f"{printable(Path(path[:4096]).name)}: is not a file that was uploaded here; upload it again")
    if Path(path).suffix.lower() not in TAKEN:
        raise UsageError(f"{printable(Path(path).name)}: expected a video or pictures, as {', '.join(TAKEN)}")
    return Path(path)


def is_upload(path: Any, uploads: Path) -> bool:
    """Tell whether `path` is a regular file in the folder of uploads, out of which no link or name leads."""
    if not isinstance(path, str) or "\0" in path:
        return False
    try:
        real = Path(path).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return False
    return real.is_file() and real.is_relative_to(uploads.resolve())


def store_inputs(files: list[Path], folder: JobFolder) -> list[str]:
    """Link `files` into the folder of a job, under names of our own; return these names in the same order.

    A link, because the same file may be part of several jobs, and another user may have uploaded the same content.
    """
    prepare_private_folder(folder.path)
    folder.inputs.mkdir()
    names = [f"{number:03d}{path.suffix.lower()}" for number, path in enumerate(files)]
    for path, name in zip(files, names, strict=True):
        try:
            os.link(path, folder.inputs / name)
        except OSError:  # a file system without links, or another one
            shutil.copyfile(path, folder.inputs / name)
    return names


def printable(name: str) -> str:
    """Return a file's name for people: on one line, and not too long."""
    plain = "".join(char if char.isprintable() else "?" for char in name)
    return plain if len(plain) <= _MOST_NAME else f"{plain[: _MOST_NAME - 1]}…"


def clip_name(files: list[Path]) -> str:
    """Return what a user calls the clip."""
    return printable(files[0].name) if len(files) == 1 else f"{len(files)} pictures"


def remove_unfinished(uploads: Path) -> None:
    """Remove what is left of uploads that were broken off: a finished one lies in a folder of its own."""
    for path in uploads.iterdir():
        if path.is_file():
            path.unlink(missing_ok=True)


def remove_abandoned(uploads: Path, older_than: float = ABANDONED) -> None:
    """Remove uploads that are older than `older_than` seconds, and folders that they leave empty."""
    before = time.time() - older_than
    for path, found in regular_files(uploads):
        if found.st_mtime < before:
            path.unlink(missing_ok=True)
    for path in uploads.iterdir():
        if path.is_dir() and path.stat().st_mtime < before and not any(path.iterdir()):
            path.rmdir()
