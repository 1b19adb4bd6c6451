"""The description of a folder's or file's content, without reading a weight, for `jax-interp inspect`."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.formats.archive import open_archive
from convert.hub.catalog import PUBLISHED_MD5
from convert.networks.component import Component
from convert.networks.components import COMPONENTS
from convert.progress import Progress
from convert.source.checkpoint_files import infer_network, locate, open_checkpoint
from convert.source.checksums import checksum
from convert.target.calibration import read_statistics
from jax_interp.errors import CheckpointError
from jax_interp.runtime.checkpoint.calibration import CalibrationReport
from jax_interp.runtime.checkpoint.converted import faulty_files, open_calibration, open_component
from jax_interp.runtime.checkpoint.finding import folders_in, scan


@dataclass(frozen=True)
class TensorRow:
    """One array of a file or of a converted network."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: str = ""

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Finding:
    """One network, converted or not, or one file."""

    path: Path
    kind: str
    faults: tuple[str, ...]
    """The reasons why it cannot be used; empty if it is complete."""
    config: Mapping[str, Any]
    tensors: tuple[TensorRow, ...]
    nbytes: int
    origin: tuple[str, ...]
    """The files that it comes from, with checksums where they are known."""
    calibration: CalibrationReport | None = None
    """What was found and chosen for every product of a network whose factors a calibration chose."""

    @property
    def parameters(self) -> int:
        """The number of its parameters."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def dtypes(self) -> dict[str, int]:
        """The number of parameters of each dtype, the most frequent first."""
        counts: Counter[str] = Counter()
        for tensor in self.tensors:
            counts[tensor.dtype] += tensor.size
        return dict(counts.most_common())


def inspect_path(path: Path, checksums: Progress | None = None) -> list[Finding]:
    """Describe everything that is recognised at `path`, a file or a folder.

    If `checksums` is given, unconverted files are read for their SHA-256 and MD5, and it is told the progress.

    Raises:
        CheckpointError: there is nothing, or a file is none of the formats that are read.
    """
    if path.is_file():
        return [_inspect_file(path, checksums)]
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such file or folder")
    converted = scan(path)
    found = [_inspect_converted(folder) for folder in converted]
    found += [
        finding
        for folder in folders_in(path)
        if folder not in converted
        if (finding := _inspect_raw(folder, checksums))
    ]
    if not found:
        raise CheckpointError(f"{path}: holds no network that this program knows, converted or not")
    return found


def _inspect_converted(folder: Path) -> Finding:
    try:
        found = open_component(folder, allow_incomplete=True)
    except CheckpointError as error:
        return Finding(folder, "converted, unreadable", (str(error),), {}, (), 0, ())
    faults, calibration = faulty_files(found), None
    if found.stored == "int8-smoothed" and not faults:
        try:
            calibration = open_calibration(found)
            read_statistics(found)
        except CheckpointError as error:
            faults.append(str(error))
    params = found.manifest["params"]
    rows = (TensorRow(name, entry["dtype"], tuple(entry["shape"]), entry["source"]) for name, entry in params.items())
    sources = found.manifest["sources"]
    return Finding(
        path=folder,
        kind=f"{found.component}, converted" + ("" if found.stored == "none" else f", in {found.stored}"),
        faults=tuple(faults),
        config=dataclasses.asdict(found.config),
        tensors=tuple(rows),
        nbytes=sum(found.manifest["files"].values()),
        origin=tuple(_describe(s["name"], s["size"], s["sha256"], s["md5"], s["published_md5"]) for s in sources),
        calibration=calibration,
    )


def _inspect_raw(folder: Path, checksums: Progress | None) -> Finding | None:
    """Return the network whose files are in `folder`; None if there is no known one."""
    candidates = [component for component in COMPONENTS.values() if locate(component, folder)]
    # Of one that fits nothing, the fault to tell is that of the network whose folder it is.
    candidates.sort(key=lambda component: folder.name != Path(component.folder).name)
    attempts = [_try_component(component, folder, checksums) for component in candidates]
    return next((finding for finding in attempts if not finding.faults), attempts[0] if attempts else None)


def _try_component(component: Component, folder: Path, checksums: Progress | None) -> Finding:
    kind = f"{component.name}, not converted"
    files = list(locate(component, folder).values())
    try:
        opened = open_checkpoint(component, folder, None)
        files = list(opened.files)
        config, leaves = infer_network(component, opened)
    except CheckpointError as error:
        return Finding(folder, kind, (str(error),), {}, (), _total(files), _origin(files, folder, None))
    read = {key for leaf in leaves for key in leaf.keys}
    return Finding(
        path=folder,
        kind=kind,
        faults=(),
        config=dataclasses.asdict(config),
        tensors=tuple(
            TensorRow(key, str(t.dtype), t.shape, t.stamp.path.name) for key, t in opened.tensors.items() if key in read
        ),
        nbytes=_total(files),
        origin=_origin(files, folder, checksums),
    )


def _inspect_file(path: Path, checksums: Progress | None) -> Finding:
    tensors = open_archive(path)
    rows = (TensorRow(key, str(tensor.dtype), tensor.shape) for key, tensor in tensors.items())
    files = sorted({path, *(tensor.stamp.path for tensor in tensors.values())})
    return Finding(path, "checkpoint file", (), {}, tuple(rows), _total(files), _origin(files, path.parent, checksums))


def _total(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _origin(files: list[Path], folder: Path, checksums: Progress | None) -> tuple[str, ...]:
    lines = []
    for file in files:
        size = file.stat().st_size
        if checksums is None:
            lines.append(f"{file.name}, {size} bytes")
            continue
        with checksums(f"checksums of {file.name}", size) as advance:
            sums = checksum(file, advance, with_md5=True)
        known = next(
            (md5 for path, md5 in PUBLISHED_MD5.items() if f"{folder.resolve() / file.name}".endswith(f"/{path}")), None
        )
        published = "unknown" if known is None else "matches" if known == sums.md5 else "differs"
        lines.append(_describe(file.name, size, sums.sha256, sums.md5, published))
    return tuple(lines)


def _describe(name: str, size: int, sha256: str, md5: str | None, published: str | None) -> str:
    verdict = {"matches": ", the published one", "differs": ", not the published one"}.get(published or "", "")
    return f"{name}, {size} bytes, sha256 {sha256}" + (f", md5 {md5}{verdict}" if md5 else "")
