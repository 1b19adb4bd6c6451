"""The provenance of a network: its files, their checksums, and whether they are the published ones."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convert.hub.catalog import PUBLISHED_MD5
from convert.progress import Progress
from convert.source.checksums import Checksums, checksum
from jax_interp.errors import CheckpointError

Md5Policy = Literal["warn", "require", "skip"]
"""What happens where a file's MD5 is not the published one: a warning, an error, or no comparison at all."""

logger = logging.getLogger("jax_interp")


Published = Literal["matches", "differs", "unknown"]
"""How a file's MD5 compares with the one that its publisher states."""


@dataclass(frozen=True)
class SourceRecord:
    """A file that a network was converted from."""

    name: str
    size: int
    modified_ns: int
    sha256: str
    md5: str | None
    published_md5: Published | None
    """None if it was not compared."""

    @classmethod
    def of(cls, name: str, sums: Checksums, published: Published | None) -> "SourceRecord":
        """Return the record of a file with these checksums."""
        return cls(name, sums.size, sums.modified_ns, sums.sha256, sums.md5, published)


def record_sources(
    folder: Path, name: str, files: Sequence[Path], earlier: Mapping[str, Any], policy: Md5Policy, progress: Progress
) -> tuple[SourceRecord, ...]:
    """Return records with the checksums of `files`.

    `folder` is the network's folder, called `name` in the checkpoint folder; files of other folders may be among them.

    `earlier` is the manifest of an earlier conversion, or empty: files that still have their size and date are not
    read again.
    """
    known = {entry["name"]: SourceRecord(**entry) for entry in earlier.get("sources", ())}
    records = []
    for path in files:
        relative = _name_of(path, folder, name)
        record, status = known.get(relative), path.stat()
        if record is None or (record.size, record.modified_ns) != (status.st_size, status.st_mtime_ns):
            record = None
        if record is None or (record.md5 is None and policy != "skip"):
            with progress(f"checksums of {relative}", status.st_size) as advance:
                sums = checksum(path, advance, with_md5=policy != "skip")
            record = SourceRecord.of(relative, sums, _compare(f"{name}/{relative}", sums.md5))
        records.append(record)
    return tuple(records)


def check_published(name: str, records: Sequence[SourceRecord], policy: Md5Policy) -> None:
    """Apply `policy` to the files of the checkpoint folder called `name`.

    Raises:
        CheckpointError: the policy is "require" and a file differs from the published one, or none can be compared.
    """
    if policy == "skip":
        return
    differing = [record for record in records if record.published_md5 == "differs"]
    unknown = [record.name for record in records if record.published_md5 == "unknown"]
    if policy == "warn":
        for record in differing:
            logger.warning(
                "%s/%s is not the published file (md5 %s, published %s): fine if it is post-trained or self-made",
                *(name, record.name, record.md5, PUBLISHED_MD5[f"{name}/{record.name}"]),
            )
        return
    if differing:
        faults = [f"{r.name} has md5 {r.md5}, expected {PUBLISHED_MD5[f'{name}/{r.name}']}" for r in differing]
        raise CheckpointError(
            f"{name}: {'; '.join(faults)}. It is not the published file: download it again, or leave --check-md5 out if"
            " it is meant to differ"
        )
    if len(unknown) == len(records):
        raise CheckpointError(
            f"{name}: no MD5 is published for {', '.join(unknown)}, so --check-md5 cannot check it; leave it out"
        )
    if unknown:
        logger.warning("%s: no MD5 is published for %s: not checked", name, ", ".join(unknown))


def _name_of(path: Path, folder: Path, name: str) -> str:
    """Return the path relative to the network's folder, or, of a file elsewhere, to the checkpoint folder."""
    root = folder.parents[len(Path(name).parts) - 1]
    return path.relative_to(folder if path.is_relative_to(folder) else root).as_posix()


def _compare(path: str, md5: str | None) -> Published | None:
    if md5 is None:
        return None
    if path not in PUBLISHED_MD5:
        return "unknown"
    return "matches" if PUBLISHED_MD5[path] == md5 else "differs"
