"""What downloads into a folder write down: the commit of each repository, and the files that were verified."""

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convert.hub.listing import RemoteFile, Snapshot
from jax_interp.errors import DownloadError
from jax_interp.files.atomic import write_atomically

RECORD_FILE = "download.json"
RECORD_VERSION = 1
_MOST_RECORD = 2**22  # bytes; one of all repositories has some ten thousand


def read_record(folder: Path) -> dict[str, Any]:
    """The record in `folder`: `{"version": 1, "repositories": {ID: {"commit": "…", "files": {NAME: {…}}}}}`.

    Raises:
        DownloadError: it is damaged or of another version.
    """
    path = folder / RECORD_FILE
    if not path.exists():
        return {"version": RECORD_VERSION, "repositories": {}}
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(_MOST_RECORD))
    except (ValueError, RecursionError):
        record = None
    if isinstance(record, dict) and _is_record(record):
        return record
    raise DownloadError(
        f"{path} is not a record of this version; delete it, then the files are checked again, not fetched"
    )


def pin(folder: Path, snapshot: Snapshot) -> None:
    """Write down the commit, which the next download into the folder then asks for."""
    with _changed(folder) as repositories:
        if repositories.get(snapshot.repository.repo_id, {}).get("commit") != snapshot.commit:
            repositories[snapshot.repository.repo_id] = {"commit": snapshot.commit, "files": {}}


def remember(folder: Path, snapshot: Snapshot, file: RemoteFile, target: Path) -> None:
    """Write down that `target` was verified to be `file`, and how to tell that nobody has touched it since."""
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
def _changed(folder: Path) -> Iterator[dict[str, Any]]:
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


def _is_record(value: dict[str, Any]) -> bool:
    repositories = value.get("repositories")
    if value.get("version") != RECORD_VERSION or not isinstance(repositories, dict):
        return False
    return all(map(_is_entry, repositories.values()))


def _is_entry(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(files := value.get("files"), dict):
        return False
    commit = value.get("commit")
    return (
        isinstance(commit, str)
        and re.fullmatch("[0-9a-f]{40}", commit) is not None
        and all(isinstance(file, dict) for file in files.values())
    )
