"""Fetch the published checkpoint files: plan, check, transfer, verify, and remember which commit they are of."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from convert.hub.catalog import PUBLISHED_MD5, Repository
from convert.hub.client import Hub
from convert.hub.download_record import RECORD_FILE, read_record, record_commit, record_verified
from convert.hub.explanations import AccessRefused, explain_disk
from convert.hub.listing import RemoteFile, Snapshot
from convert.hub.verification import find_mismatches
from jax_interp.byte_sizes import format_bytes
from jax_interp.errors import DownloadError, UsageError

State = Literal["missing", "partial", "unverified", "different", "complete"]
"""The state of a file. `unverified` means that it has the right size but that no download verified it: it is hashed,
not fetched again."""


@dataclass(frozen=True)
class PlannedFile:
    """A file of the catalog, with what the hub says about it and how much of it is here."""

    snapshot: Snapshot
    remote: RemoteFile
    target: Path
    state: State
    have: int
    """The number of bytes that need not be fetched."""

    @property
    def key(self) -> str:
        """The path relative to the checkpoint folder."""
        return self.snapshot.repository.path(self.remote.name)

    @property
    def part(self) -> Path:
        """The file that the bytes are written to; it is named after the commit, so that two versions never mix."""
        return self.target.with_name(f"{self.target.name}.{self.snapshot.commit[:12]}.part")

    @property
    def to_fetch(self) -> int:
        return self.remote.size - self.have


@dataclass(frozen=True)
class DownloadPlan:
    """Everything that a download will do."""

    folder: Path
    files: tuple[PlannedFile, ...]
    free: int
    """Free bytes on the disk of the folder."""

    @property
    def to_fetch(self) -> int:
        return sum(file.to_fetch for file in self.files)

    @property
    def total(self) -> int:
        return sum(file.remote.size for file in self.files)

    def check(self) -> None:
        """Raise `DownloadError` if the folder or its disk cannot take what is to be fetched."""
        unfinished = [file.target for file in self.files if file.state != "complete"]
        with disk_errors_explained(self.folder):
            for path in [self.folder / RECORD_FILE, *unfinished]:
                _check_place(path)
        self.check_space()

    def check_space(self) -> None:
        """Raise `DownloadError` if the disk cannot take what is to be fetched."""
        if self.to_fetch > self.free:
            raise DownloadError(
                f"{self.folder} needs {format_bytes(self.to_fetch)} more, but its disk has {format_bytes(self.free)}"
                " free; make room, name another --checkpoint-dir, or fetch less with --components"
            )


def parse_revisions(values: Iterable[str], repositories: Iterable[Repository]) -> dict[str, str]:
    """Return the revision of each repository by its id, from `REVISION` (for all) and `REPOSITORY=REVISION`.

    Raises:
        UsageError: a repository is not among `repositories`.
    """
    names = [repository.repo_id for repository in repositories]
    revisions: dict[str, str] = {}
    for value in values:
        repo_id, separator, revision = value.rpartition("=")
        if separator and repo_id not in names:
            raise UsageError(f"--revision {value}: {repo_id} is not fetched; there are {', '.join(names)}")
        revisions |= dict.fromkeys([repo_id] if separator else names, revision)
    return revisions


def plan_download(
    hub: Hub, folder: Path, repositories: Iterable[Repository], revisions: Mapping[str, str]
) -> DownloadPlan:
    """Plan a download: ask the hub for sizes and look at what is in `folder`. Nothing is fetched or changed.

    A repository's revision is the one in `revisions`, else the commit of an earlier download, else the catalog's.
    """
    files: list[PlannedFile] = []
    commits: dict[str, str] = {}
    with disk_errors_explained(folder):
        record = read_record(folder)["repositories"]
        for repository in repositories:
            repo_id = repository.repo_id
            earlier = record.get(repo_id, {})
            revision = revisions.get(repo_id) or earlier.get("commit") or repository.revision
            # a repository in several rows is asked once for its branch: that may move on in between
            snapshot = hub.snapshot(repository, commits.get(repo_id, revision))
            commits[repo_id] = snapshot.commit
            files += [_look(folder, snapshot, remote, earlier.get("files", {})) for remote in snapshot.files]
        return DownloadPlan(folder, tuple(files), free=_free_space(folder))


def download(hub: Hub, plan: DownloadPlan, arrived: Callable[[PlannedFile, int], None], check_md5: bool = True) -> None:
    """Fetch what is missing and verify everything. After an interruption the next call goes on from there.

    `arrived` is told how many new bytes of a file came, and 0 when its checksums are about to be computed. A file gets
    its name only once they are right.

    Raises:
        DownloadError: access is refused, the disk is too small, the hub is out of reach or a file is damaged.
    """
    plan.check()
    _check_access(hub, plan)
    with disk_errors_explained(plan.folder):
        for file in plan.files:
            record_commit(plan.folder, file.snapshot)
        for file in plan.files:
            if file.state != "complete":
                _complete(hub, plan.folder, file, arrived, check_md5)


@contextlib.contextmanager
def disk_errors_explained(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses inside into a `DownloadError` with the cause and the remedy."""
    try:
        yield
    except ConnectionError:  # whoever watches the progress has gone
        raise
    except OSError as error:
        raise DownloadError(f"{folder}: {'; '.join(explain_disk(error))}") from error


def _check_access(hub: Hub, plan: DownloadPlan) -> None:
    """Ask for what every repository with files to fetch wants, so that all terms can be accepted at once."""
    refused = []
    for snapshot in {file.snapshot.repository.repo_id: file.snapshot for file in plan.files if file.to_fetch}.values():
        try:
            hub.check_access(snapshot)
        except AccessRefused as error:
            refused.append(str(error))
    if refused:
        raise DownloadError("\n".join(refused))


def _complete(
    hub: Hub, folder: Path, file: PlannedFile, arrived: Callable[[PlannedFile, int], None], check_md5: bool
) -> None:
    source = file.target if file.state == "unverified" else file.part
    if file.state != "unverified":
        hub.fetch(file.snapshot, file.remote, file.part, lambda count: arrived(file, count))
    arrived(file, 0)
    md5 = PUBLISHED_MD5.get(file.key) if check_md5 else None
    faults = find_mismatches(source, file.remote, md5)
    if faults:
        raise _set_aside(source, file, faults)
    source.replace(file.target)
    for stale in file.target.parent.glob(f"{file.target.name}.*.part"):
        stale.unlink()
    record_verified(folder, file.snapshot, file.remote, file.target)


def _set_aside(source: Path, file: PlannedFile, faults: dict[str, str]) -> DownloadError:
    """Take the name away from a file that is not the one that was asked for."""
    corrupt = file.target.with_name(f"{file.target.name}.corrupt")
    source.replace(corrupt)
    remedy = "run this command again to fetch it anew"
    if [*faults] == ["MD5"] and file.state != "unverified":
        remedy = (
            f"it is what the hub has at {file.snapshot.commit[:12]}, but not the known release; fetch that with "
            f"--revision {file.snapshot.repository.repo_id}=REVISION, or accept this one with --no-check-md5"
        )
    return DownloadError(
        f"{file.target} is damaged or another file: {'; '.join(faults.values())}. Kept as {corrupt.name}; {remedy}"
    )


def _look(folder: Path, snapshot: Snapshot, remote: RemoteFile, recorded: dict[str, Any]) -> PlannedFile:
    target = folder / snapshot.repository.path(remote.name)
    state: State = "missing"
    if target.is_file():
        stat, known = target.stat(), recorded.get(remote.name, {})
        if stat.st_size == remote.size:
            same = (known.get("sha256"), known.get("git_sha1")) == (remote.sha256, remote.git_sha1)
            untouched = same and known.get("modified_ns") == stat.st_mtime_ns
            return PlannedFile(snapshot, remote, target, "complete" if untouched else "unverified", remote.size)
        state = "different"
    empty = PlannedFile(snapshot, remote, target, state, 0)
    if not empty.part.is_file():
        return empty
    have = min(empty.part.stat().st_size, remote.size)
    return replace(empty, have=have, state="partial" if state == "missing" else state)


def _check_place(path: Path) -> None:
    """Refuse what would otherwise fail when the file is there and gets its name."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "", str(path))
    place = path.parent
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "", str(place))
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "", str(place))


def _free_space(folder: Path) -> int:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
