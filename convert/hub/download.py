"""Fetch the published checkpoint files: plan, check, transfer, verify, and remember which commit they are of."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypedDict

from convert.hub.catalog import PUBLISHED_MD5, Repository
from convert.hub.client import Hub, RemoteFile, Snapshot
from jax_interp.errors import DownloadError, UsageError
from jax_interp.files.json_file import JsonFault, read_json

RECORD_FILE = "download.json"
RECORD_VERSION: Literal[1] = 1


class VerifiedFile(TypedDict):
    """A file as it was when its checksums were right."""

    size: int
    modified_ns: int
    sha256: str | None
    git_sha1: str


class Fetched(TypedDict):
    """What was fetched of a repository."""

    commit: str
    files: dict[str, VerifiedFile]


class Record(TypedDict):
    """`download.json`, by repository id and by the file's name in the repository."""

    version: Literal[1]
    repositories: dict[str, Fetched]


State = Literal["missing", "partial", "unverified", "different", "complete"]
"""`unverified`: there and of the right size, but not fetched by this command; it is hashed, not fetched again."""


@dataclass(frozen=True)
class PlannedFile:
    """A file of the catalog, what the hub says about it and how much of it is here."""

    snapshot: Snapshot
    remote: RemoteFile
    target: Path
    state: State
    have: int
    """Bytes that need not be fetched."""

    @property
    def key(self) -> str:
        """Path relative to the checkpoint folder."""
        return self.snapshot.repository.path(self.remote.name)

    @property
    def part(self) -> Path:
        """Where the file grows; named after its commit, so that two versions never mix."""
        return self.target.with_name(f"{self.target.name}.{self.snapshot.commit[:12]}.part")

    @property
    def to_fetch(self) -> int:
        return self.remote.size - self.have


@dataclass(frozen=True)
class Plan:
    """Everything a download will do."""

    folder: Path
    files: tuple[PlannedFile, ...]
    free: int
    """Bytes free where the folder is."""

    @property
    def to_fetch(self) -> int:
        return sum(file.to_fetch for file in self.files)

    @property
    def total(self) -> int:
        return sum(file.remote.size for file in self.files)

    def check_space(self) -> None:
        """Raise `DownloadError` if the disk cannot take what is to be fetched."""
        if self.to_fetch > self.free:
            raise DownloadError(
                f"{self.folder} needs {readable(self.to_fetch)} more, but its disk has {readable(self.free)} free; "
                "make room, name another --checkpoint-dir, or fetch less with --components"
            )


def readable(size: int) -> str:
    """Bytes in the unit that people use for them."""
    if size >= 10**9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 10**6 else f"{size / 1e3:.1f} kB"


def parse_revisions(values: Iterable[str], repositories: Iterable[Repository]) -> dict[str, str]:
    """Revision by repository id, from `REVISION` (for all) and `REPOSITORY=REVISION`.

    Raises:
        UsageError: a repository is not among those to fetch.
    """
    names = [repository.repo_id for repository in repositories]
    revisions: dict[str, str] = {}
    for value in values:
        repo_id, separator, revision = value.rpartition("=")
        if separator and repo_id not in names:
            raise UsageError(f"--revision {value}: {repo_id} is not fetched; there are {', '.join(names)}")
        revisions |= dict.fromkeys([repo_id] if separator else names, revision)
    return revisions


def make_plan(hub: Hub, folder: Path, repositories: Iterable[Repository], revisions: Mapping[str, str]) -> Plan:
    """Ask the hub for sizes and look at what is in `folder`; fetches and changes nothing.

    A repository's revision is the one in `revisions`, else the commit of an earlier download, else the catalog's.
    """
    record = read_record(folder)
    files: list[PlannedFile] = []
    for repository in repositories:
        earlier = record["repositories"].get(repository.repo_id, {})
        revision = revisions.get(repository.repo_id) or earlier.get("commit") or repository.revision
        snapshot = hub.snapshot(repository, revision)
        files += [_look(folder, snapshot, remote, earlier.get("files", {})) for remote in snapshot.files]
    return Plan(folder, tuple(files), free=_free_space(folder))


def download(hub: Hub, plan: Plan, arrived: Callable[[PlannedFile, int], None], check_md5: bool = True) -> None:
    """Fetch what is missing and verify everything; interrupted at any point, the next call goes on from there.

    `arrived` hears of every file's new bytes, and of 0 bytes when its checksums are about to be computed. A file gets
    its name only once they are right.

    Raises:
        DownloadError: access is refused, the disk is too small, the hub is out of reach or a file is damaged.
    """
    plan.check_space()
    for snapshot in {file.snapshot.repository.repo_id: file.snapshot for file in plan.files if file.to_fetch}.values():
        hub.check_access(snapshot)
    for file in plan.files:
        _pin(plan.folder, file.snapshot)
    for file in plan.files:
        if file.state == "complete":
            continue
        source = file.target if file.state == "unverified" else file.part
        if file.state != "unverified":
            hub.fetch(file.snapshot, file.remote, file.part, lambda count, file=file: arrived(file, count))
        arrived(file, 0)
        _verify(source, file, check_md5)
        source.replace(file.target)
        for stale in file.target.parent.glob(f"{file.target.name}.*.part"):
            stale.unlink()
        _remember(plan.folder, file)


def read_record(folder: Path) -> Record:
    """What earlier downloads into `folder` wrote down: commits, and the files that were verified.

    Raises:
        DownloadError: the record is damaged.
    """
    path = folder / RECORD_FILE
    try:
        return read_json(path, Record)
    except FileNotFoundError:
        return {"version": RECORD_VERSION, "repositories": {}}
    except JsonFault as fault:
        raise DownloadError(
            f"{path} is not a record of this version: {fault}; delete it, then the files are checked again, not fetched"
        ) from None


def _pin(folder: Path, snapshot: Snapshot) -> None:
    """Write down the commit, which the next download into the folder then asks for."""
    record = read_record(folder)
    repositories, repo_id = record["repositories"], snapshot.repository.repo_id
    if repositories.get(repo_id, {}).get("commit") != snapshot.commit:
        repositories[repo_id] = {"commit": snapshot.commit, "files": {}}
        _write_record(folder, record)


def _remember(folder: Path, file: PlannedFile) -> None:
    """Write down that the file was verified, and how to tell that nobody has touched it since."""
    record = read_record(folder)
    stat = file.target.stat()
    record["repositories"][file.snapshot.repository.repo_id]["files"][file.remote.name] = {
        "size": stat.st_size,
        "modified_ns": stat.st_mtime_ns,
        "sha256": file.remote.sha256,
        "git_sha1": file.remote.git_sha1,
    }
    _write_record(folder, record)


def _write_record(folder: Path, record: Record) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{RECORD_FILE}.part"
    partial.write_text(json.dumps(record, indent=2) + "\n")
    partial.replace(folder / RECORD_FILE)


def _look(folder: Path, snapshot: Snapshot, remote: RemoteFile, recorded: Mapping[str, VerifiedFile]) -> PlannedFile:
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


def _free_space(folder: Path) -> int:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _verify(path: Path, file: PlannedFile, check_md5: bool) -> None:
    """Compare with the hub's checksum and with the known MD5; a file that differs is renamed and reported."""
    md5 = PUBLISHED_MD5.get(file.key) if check_md5 else None
    wanted = {
        "size": str(file.remote.size),
        "SHA-256": file.remote.sha256,
        "Git SHA-1": None if file.remote.sha256 else file.remote.git_sha1 or None,
        "MD5": md5,
    }
    found = _checksums(path, {name for name, value in wanted.items() if value})
    wrong = [
        f"{name} {found[name]}, expected {value}" for name, value in wanted.items() if value and found[name] != value
    ]
    if not wrong:
        return
    corrupt = file.target.with_name(f"{file.target.name}.corrupt")
    path.replace(corrupt)
    remedy = "run this command again to fetch it anew"
    if len(wrong) == 1 and wrong[0].startswith("MD5") and file.state != "unverified":
        remedy = (
            f"it is what the hub has at {file.snapshot.commit[:12]}, but not the known release; fetch that with "
            f"--revision {file.snapshot.repository.repo_id}=REVISION, or accept this one with --no-check-md5"
        )
    raise DownloadError(
        f"{file.target} is damaged or another file: {'; '.join(wrong)}. Kept as {corrupt.name}; {remedy}"
    )


def _checksums(path: Path, names: set[str]) -> dict[str, str]:
    size = path.stat().st_size
    digests = {
        "SHA-256": hashlib.sha256(),
        "Git SHA-1": hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False),
        "MD5": hashlib.md5(usedforsecurity=False),
    }
    digests = {name: digest for name, digest in digests.items() if name in names}
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            for digest in digests.values():
                digest.update(chunk)
    return {"size": str(size)} | {name: digest.hexdigest() for name, digest in digests.items()}
