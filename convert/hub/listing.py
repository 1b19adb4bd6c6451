"""The hub's listing of a repository, read strictly: its sizes and checksums decide what is fetched and accepted."""

import json
import re
from dataclasses import dataclass
from typing import Any, TypeGuard

from convert.hub.catalog import Repository
from convert.hub.transport.faults import BadResponse

MAX_LISTING_BYTES = 2**22
"""Bytes of a listing; those of the catalog's repositories have some ten thousand."""
MAX_FILE_BYTES = 10**12
"""Bytes of a file; the largest of the catalog has 45 GB."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository at one commit."""

    name: str
    size: int
    sha256: str | None
    """The SHA-256 of the content, which the hub knows for big files only."""
    git_sha1: str
    """Git's identifier of the content, for small files; of a big file it says nothing about the content."""


@dataclass(frozen=True)
class Snapshot:
    """The wanted files of a repository at the commit that a branch, tag or commit stands for."""

    repository: Repository
    commit: str
    files: tuple[RemoteFile, ...]


def read_listing(repository: Repository, revision: str, body: bytes, content_type: str) -> Snapshot:
    """Return the files of `repository` from `body`, the hub's listing of it; other files in it are not looked at.

    Raises:
        BadResponse: it is not JSON, not a listing or not of this revision, or a file of the repository is missing, is
            there twice, or has no size and no checksum that make sense.
    """
    try:
        listing = json.loads(body)
    except (ValueError, RecursionError):
        kind = content_type and f" but {content_type}"
        raise BadResponse(
            f"is not JSON{kind}; a proxy or a login page of the network may answer in the hub's place"
        ) from None
    if not isinstance(listing, dict):
        raise BadResponse(f"is {_kind(listing)}, not an object that describes a repository")
    commit, siblings = listing.get("sha"), listing.get("siblings")
    if not isinstance(listing.get("id"), str):
        raise BadResponse("lacks `id`, the repository's name")
    if not _is_hex(commit, 40):
        raise BadResponse("lacks `sha`, a commit of 40 hexadecimal digits")
    if not isinstance(siblings, list):
        raise BadResponse("lacks `siblings`, the list of files")
    if _is_hex(revision, 40) and commit != revision:
        raise BadResponse(f"is of commit {commit}, which was not asked for")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in repository.files}
    for row in siblings:
        name = row.get("rfilename") if isinstance(row, dict) else None
        if isinstance(name, str) and name in found:
            found[name].append(row)
    missing = [name for name, rows in found.items() if not rows]
    if missing:
        remedy = "name a revision that has: --revision REPOSITORY=REVISION"
        raise BadResponse(f"has no {', '.join(missing)}", remedy=remedy)
    twice = [name for name, rows in found.items() if len(rows) > 1]
    if twice:
        raise BadResponse(f"has {', '.join(twice)} more than once")
    return Snapshot(repository, commit, tuple(_read_file(name, *rows) for name, rows in found.items()))


def _read_file(name: str, row: dict[str, Any]) -> RemoteFile:
    big = row.get("lfs")
    sizes = [row[key] for key in ("size",) if row.get(key) is not None]
    sizes += [big["size"]] if isinstance(big, dict) and big.get("size") is not None else []
    if not sizes:
        raise BadResponse(f"has no size for {name}")
    for size in sizes:
        # a boolean is an integer to Python
        if type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
            raise BadResponse(
                f"has {_shown(size)} as the size of {name}, expected bytes up to {MAX_FILE_BYTES / 1e12:.0f} TB"
            )
    if len(set(sizes)) > 1:
        raise BadResponse(f"has two sizes for {name}: {sizes[0]} and {sizes[1]} bytes")
    if big:
        if not isinstance(big, dict) or not _is_hex(big.get("sha256"), 64):
            raise BadResponse(f"has no SHA-256 for {name}, so nothing could tell whether it arrives whole")
        git_sha1 = row.get("blobId")
        return RemoteFile(name, sizes[0], big["sha256"], git_sha1 if isinstance(git_sha1, str) else "")
    if not _is_hex(row.get("blobId"), 40):
        raise BadResponse(f"has no checksum for {name}, so nothing could tell whether it arrives whole")
    return RemoteFile(name, sizes[0], None, row["blobId"])


def _is_hex(value: Any, digits: int) -> TypeGuard[str]:
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) is not None


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "an object", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    """Return the value, shortened for a message."""
    return repr(value)[:40] if isinstance(value, int | float | str) else _kind(value)
