"""The record of downloads into a folder: the commit of each repository, and the files that were verified."""

import contextlib
import errno
import fcntl
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from convert.hub.listing import RemoteFile, Snapshot
from jax_interp.errors import DownloadError
from jax_interp.files.atomic import write_atomically
from jax_interp.files.json_file import read_json
from jax_interp.files.json_schema import JsonFault, Matching

RECORD_FILE = "download.json"
RECORD_VERSION: Literal[1] = 1


def _is_commit(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{40}", text) is not None


class VerifiedFile(TypedDict):
    """The size, date and checksums of a file when it was verified."""

    size: int
    modified_ns: int
    sha256: str | None
    git_sha1: str | None


class Fetched(TypedDict):
    """The commit and the verified files of one repository."""

    commit: Annotated[str, Matching(_is_commit, "a commit's 40 hexadecimal digits")]
    files: dict[str, VerifiedFile]


class DownloadRecord(TypedDict):
    """The content of `download.json`: files by repository id and by name in the repository."""

    version: Literal[1]
    repositories: dict[str, Fetched]


def read_record(folder: Path) -> DownloadRecord:
    """Read the record of earlier downloads into `folder`; it is empty if there were none.

    Raises:
        DownloadError: it is damaged or of another version.
        IsADirectoryError: a folder has its name.
    """
    path = folder / RECORD_FILE
    if not path.exists():
        return {"version": RECORD_VERSION, "repositories": {}}
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        return read_json(path, DownloadRecord)
    except JsonFault as fault:
        raise DownloadError(
            f"{path} is not a record of this version: {fault}; delete it, then the files are checked again, not fetched"
        ) from None


def record_commit(folder: Path, snapshot: Snapshot) -> None:
    """Record the commit of `snapshot`, for which the next download into `folder` then asks."""
    with _changed(folder) as repositories:
        if repositories.get(snapshot.repository.repo_id, {}).get("commit") != snapshot.commit:
            repositories[snapshot.repository.repo_id] = {"commit": snapshot.commit, "files": {}}


def record_verified(folder: Path, snapshot: Snapshot, file: RemoteFile, target: Path) -> None:
    """Record that `target` was verified to be `file`, with size and date, so that a later change is noticed."""
    stat = target.stat()
    with _changed(folder) as repositories:
        entry = repositories.setdefault(snapshot.repository.repo_id, {"commit": snapshot.commit, "files": {}})
        entry["files"][file.name] = {
            "size": stat.st_size,
            "modified_ns": stat.st_mtime_ns,
            "sha256": file.sha256,
            "git_sha1": file.git_sha1,
        }


@contextlib.contextmanager
def _changed(folder: Path) -> Iterator[dict[str, Fetched]]:
    """The record's repositories, to be changed; written afterwards. Downloads into one folder take turns."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        record = read_record(folder)
        before = json.dumps(record)
        yield record["repositories"]
        if json.dumps(record) != before:
            write_atomically(folder / RECORD_FILE, (json.dumps(record, indent=2) + "\n").encode())
    finally:
        os.close(handle)
