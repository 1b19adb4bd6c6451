"""What a converted folder says about itself: `config.json` for the program, `manifest.json` for where it came from."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convert.mapping.matching import Leaf
from convert.source.checkpoint_files import Checksums
from jax_interp._version import __version__
from jax_interp.config import to_json
from jax_interp.runtime.checkpoint import CONFIG_FILE, FORMAT_VERSION, MANIFEST_FILE
from jax_interp.runtime.param_files import ArrayStream

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
        """The record of a file with these checksums."""
        return cls(name, sums.size, sums.modified_ns, sums.sha256, sums.md5, published)


def write_description(
    folder: Path,
    *,
    component: str,
    config: Any,
    settings: Mapping[str, Any],
    sources: Sequence[SourceRecord],
    leaves: Sequence[Leaf],
    streams: Mapping[str, ArrayStream],
) -> None:
    """Write `config.json` and `manifest.json` into a folder whose other files are all written."""
    params = {
        leaf.path: {
            "shape": list(leaf.shape),
            "dtype": streams[leaf.path].dtype.name,
            "source": leaf.pattern,
            "op": leaf.op.name,
        }
        for leaf in leaves
    }
    manifest = {
        "format_version": FORMAT_VERSION,
        "jax_interp": __version__,
        "component": component,
        "settings": dict(settings),
        "sources": [vars(record) for record in sources],
        "params": params,
        "files": dict(_files(folder)),
    }
    description = {
        "component": component,
        "format_version": FORMAT_VERSION,
        "dtype": main_dtype(streams),
        "config": to_json(config),
    }
    _write_json(folder / MANIFEST_FILE, manifest)
    _write_json(folder / CONFIG_FILE, description)


def main_dtype(streams: Mapping[str, ArrayStream]) -> str:
    """The dtype that most bytes have."""
    dtypes = {stream.dtype.name for stream in streams.values()}
    return max(sorted(dtypes), key=lambda name: sum(s.nbytes for s in streams.values() if s.dtype.name == name))


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.stat().st_size


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", "utf-8")
