"""The check that a file which has arrived is the one that the hub lists."""

import hashlib
from pathlib import Path

from convert.hub.listing import RemoteFile


def find_mismatches(path: Path, remote: RemoteFile, md5: str | None = None) -> dict[str, str]:
    """Return what is wrong with the file at `path` by measure (size, the hub's checksum, the given MD5).

    The result is empty if the file is `remote`.
    """
    wanted = {
        "size": str(remote.size),
        "SHA-256": remote.sha256,
        "Git SHA-1": None if remote.sha256 else remote.git_sha1,
        "MD5": md5,
    }
    found = _checksums(path, {name for name, value in wanted.items() if value})
    return {
        name: f"{name} {found[name]}, expected {value}"
        for name, value in wanted.items()
        if value and found[name] != value
    }


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
