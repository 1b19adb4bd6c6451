"""The description of a converted folder: `config.json` for the program, `manifest.json` for where it came from."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from convert.mapping.matching import Leaf
from convert.source.provenance import SourceRecord
from jax_interp._version import __version__
from jax_interp.config import to_json
from jax_interp.runtime.checkpoint.description import (
    CONFIG_FILE,
    MANIFEST_FILE,
    ConversionSettings,
    Description,
    Manifest,
    SourceFile,
    StoredArray,
    format_of,
)
from jax_interp.runtime.checkpoint.param_files import ArrayStream


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
    """Write `config.json` and `manifest.json` into a folder whose other files are all written.

    `leaves` and `streams` are those of what is stored, which is quantised if `settings` have a "quantization".
    """
    version = format_of(settings.get("quantization", "none"))
    params: dict[str, StoredArray] = {
        leaf.path: {
            "shape": list(leaf.shape),
            "dtype": streams[leaf.path].dtype.name,
            "source": leaf.pattern,
            "op": leaf.op.name,
        }
        for leaf in leaves
    }
    manifest: Manifest = {
        "format_version": version,
        "jax_interp": __version__,
        "component": component,
        "settings": ConversionSettings(**settings),
        "sources": [SourceFile(**vars(record)) for record in sources],
        "params": params,
        "files": dict(_files(folder)),
    }
    description: Description = {
        "component": component,
        "format_version": version,
        "dtype": main_dtype(streams),
        "config": to_json(config),
    }
    if "quantization" in settings:
        description["quantization"] = settings["quantization"]
    _write_json(folder / MANIFEST_FILE, manifest)
    _write_json(folder / CONFIG_FILE, description)


def main_dtype(streams: Mapping[str, ArrayStream]) -> str:
    """Return the dtype that most bytes have."""
    dtypes = {stream.dtype.name for stream in streams.values()}
    return max(sorted(dtypes), key=lambda name: sum(s.nbytes for s in streams.values() if s.dtype.name == name))


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.stat().st_size


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", "utf-8")
