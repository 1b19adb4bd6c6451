"""Upstream's checkpoint folder to a converted one: what to do is settled and checked first, then written."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from convert.hub.catalog import PUBLISHED_MD5, TRANSFORMERS
from convert.mapping.matching import Leaf
from convert.networks.component import EXTRA_FOLDER, Component
from convert.networks.components import COMPONENTS, named
from convert.progress import Progress, no_progress
from convert.source.adapter import merge_adapter
from convert.source.checkpoint_files import OpenedCheckpoint, Weights, infer_network, locate, open_checkpoint
from convert.source.provenance import Md5Policy, SourceRecord, check_published, record_sources
from convert.target.finite import FiniteCheck
from convert.target.folders import check_space, clear_leftovers, refuse_foreign_files, replace_atomically, writer_lock
from convert.target.manifest import write_description
from convert.target.quantize import quantize_streams
from convert.target.streams import stream
from jax_interp.components import TABLE, TransformerType, transformer_type
from jax_interp.config import Precision, Quantization
from jax_interp.errors import CheckpointError, UsageError
from jax_interp.nn.params import unflatten
from jax_interp.runtime.checkpoint.converted import open_component
from jax_interp.runtime.checkpoint.description import CONFIG_FILE, MANIFEST_FILE, PARAMS_FOLDER
from jax_interp.runtime.checkpoint.param_files import ArrayStream, write_params

logger = logging.getLogger("jax_interp")

_OWN_NAMES = {CONFIG_FILE, MANIFEST_FILE, PARAMS_FOLDER, EXTRA_FOLDER}
_OWN_NAMES |= {component.companion.into for component in COMPONENTS.values() if component.companion}
_DESCRIPTION_BYTES = 1 << 24
"""Bytes that are reserved for the files besides the weights."""


@dataclass(frozen=True, kw_only=True)
class ConversionRequest:
    """A request to convert networks of a checkpoint folder: which ones, and how."""

    checkpoint_dir: Path
    output_dir: Path
    components: tuple[str, ...] = ()
    """Names in `convert.networks.components.COMPONENTS`; an empty tuple means all that `checkpoint_dir` holds."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """The folder of each component that is not in upstream's folder, relative to `checkpoint_dir`."""
    dtype: Precision | None = None
    """The dtype that floating tensors are cast to; None leaves each as it is."""
    weights: Weights | None = None
    """Which of the two sets of weights in a post-trained file is converted; None means "model"."""
    md5: Md5Policy = "warn"
    overwrite: bool = False
    """Replace converted networks that are there already."""
    allow_non_finite: bool = False
    """Convert weights that are NaN or infinite as well, with a warning."""
    quantization: Quantization = "none"
    """The quantisation in which networks that have one are stored."""

    def __post_init__(self) -> None:
        if self.quantization != "none" and self.allow_non_finite:
            raise UsageError(
                f"--allow-non-finite and --quantization {self.quantization}: weights that are not finite cannot be"
                " quantised; leave out one of them"
            )

    def settings(self, component: Component) -> dict[str, Any]:
        """Return the settings in which two conversions of the same files must agree to give the same result."""
        quantization = TABLE[component.name].runs_in(self.quantization)
        quantized = {} if quantization == "none" else {"quantization": quantization}
        return {"dtype": self.dtype, "weights": self.weights or "model"} | quantized


@dataclass(frozen=True)
class _Job:
    """One network: opened, understood and found to be complete; nothing of it read yet."""

    component: Component
    name: str
    """Its folder, relative to the checkpoint folder and to the output folder."""
    target: Path
    opened: OpenedCheckpoint
    config: Any
    leaves: tuple[Leaf, ...]
    existing: Mapping[str, Any]
    """Manifest of what is converted already, empty if there is nothing."""
    copied: Mapping[str, Path]
    """Files of other folders that are copied as they are, by name in the converted folder."""


def convert_checkpoints(request: ConversionRequest, progress: Progress = no_progress) -> list[Path]:
    """Convert every requested network and return their folders; those that are done already are left alone.

    Each appears under its name only when it is complete. All checks of all networks come before the first write.

    Raises:
        UsageError: a component or folder name cannot be.
        CheckpointError: files are missing, damaged or not of the network, hold weights that are not finite, differ
            from what is converted already, or the disk is or would be full.
    """
    chosen = _choose(request)
    with writer_lock(request.output_dir):
        for _, name in chosen:
            if clear_leftovers(request.output_dir / name):
                logger.info("%s: removed what an interrupted conversion had left", name)
        jobs = [_prepare(request, component, name) for component, name in chosen]
        todo = _settle(request, jobs, progress)
        check_space(request.output_dir, sum(_bytes_needed(request, job) for job, _ in todo))
        for job, sources in todo:
            _write(request, job, sources, progress)
    return [job.target for job in jobs]


def _choose(request: ConversionRequest) -> list[tuple[Component, str]]:
    """Return the requested components and their folders; without a request, those that are there."""
    if not request.checkpoint_dir.is_dir():
        raise CheckpointError(f"{request.checkpoint_dir}: no such folder; name one with --checkpoint-dir")
    asked = request.components or tuple(request.folders)
    explicit = {component.name for component in named(asked)} if asked else set()
    chosen, looked_for = [], []
    for component in named(request.components):
        given = request.folders.get(component.name)
        names = _published_folders(component) if given is None else [_checked_name(component, given)]
        there = [name for name in names if locate(component, request.checkpoint_dir / name)]
        if component.name in explicit:
            there = there or names[:1]  # what it lacks is said when it is opened
        chosen += [(component, name) for name in there]
        looked_for += [f"{name}/{' or '.join(component.sources[0].names[:2])}" for name in names]
    if not chosen:
        flags = ", ".join(component.flag for component in COMPONENTS.values())
        raise CheckpointError(
            f"{request.checkpoint_dir}: nothing to convert; looked for {'; '.join(looked_for)}. Other folders are named"
            f" with {flags}"
        )
    return chosen


def _published_folders(component: Component) -> list[str]:
    """Return upstream's folders of a network, the default one first: there are three transformers."""
    others = [entry.folder for entry in TRANSFORMERS if entry.component == component.name]
    return list(dict.fromkeys([component.folder, *others]))


def _checked_name(component: Component, name: str) -> str:
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UsageError(f"{component.flag}: {name!r} must be a folder inside --checkpoint-dir, relative to it")
    return path.as_posix()


def _prepare(request: ConversionRequest, component: Component, name: str) -> _Job:
    """Open a network's files, tell its architecture, and check every key and shape."""
    target = request.output_dir / name
    existing = _existing(request, target)
    opened = open_checkpoint(component, request.checkpoint_dir / name, request.weights)
    opened, copied = merge_adapter(component.adapter, opened, request.checkpoint_dir)
    if component.companion is not None:
        copied |= component.companion.find(opened.folder, request.checkpoint_dir)
    config, leaves = infer_network(component, opened)
    return _Job(component, name, target, opened, config, leaves, existing, copied)


def _existing(request: ConversionRequest, target: Path) -> Mapping[str, Any]:
    if not target.exists():
        return {}
    refuse_foreign_files(target, _OWN_NAMES)
    return {} if request.overwrite else open_component(target).manifest


def _settle(
    request: ConversionRequest, jobs: list[_Job], progress: Progress
) -> list[tuple[_Job, tuple[SourceRecord, ...]]]:
    """Return the jobs that are left to do, with the checksums of their files."""
    todo, faults = [], []
    for job in jobs:
        files = (*job.opened.files, *job.copied.values())
        sources = record_sources(job.opened.folder, job.name, files, job.existing, request.md5, progress)
        differences = _differences(job.existing, sources, request.settings(job.component))
        if request.md5 == "require" or not job.existing:
            check_published(job.name, sources, request.md5)
        if not job.existing:
            todo.append((job, sources))
        elif differences:
            faults.append(f"{job.target}: converted already, but {'; '.join(differences)}")
        else:
            logger.info("%s: converted already", job.target)
    if faults:
        raise CheckpointError("\n".join([*faults, "Pass --overwrite to convert again, or choose another --output-dir"]))
    return todo


def _differences(
    existing: Mapping[str, Any], sources: tuple[SourceRecord, ...], settings: Mapping[str, Any]
) -> list[str]:
    """Return the differences of an earlier conversion from the requested one."""
    if not existing:
        return []
    before = {entry["name"]: entry["sha256"] for entry in existing["sources"]}
    now = {record.name: record.sha256 for record in sources}
    old = existing.get("settings", {})
    faults = [f"{name} has changed since" for name in before.keys() & now.keys() if before[name] != now[name]]
    faults += [f"from {', '.join(sorted(before))}"] if before.keys() != now.keys() else []
    keys = dict.fromkeys([*settings, "quantization"])
    return faults + [f"with {key} {old.get(key)}" for key in keys if old.get(key) != settings.get(key)]


def _extra_files(job: _Job) -> dict[str, Path]:
    """Return the files that are copied as they are, by name in the converted folder."""
    names = (*job.component.required_files, *job.component.optional_files)
    own = {f"{EXTRA_FOLDER}/{name}": path for name in names if (path := job.opened.folder / name).is_file()}
    return own | dict(job.copied)


def _bytes_needed(request: ConversionRequest, job: _Job) -> int:
    streams = {leaf.path: stream(leaf, job.opened.tensors, request.dtype, int) for leaf in job.leaves}
    _, streams = _as_stored(request, job, streams)
    arrays = sum(array.nbytes for array in streams.values())
    return arrays + sum(path.stat().st_size for path in _extra_files(job).values()) + _DESCRIPTION_BYTES


def _as_stored(
    request: ConversionRequest, job: _Job, streams: dict[str, ArrayStream]
) -> tuple[tuple[Leaf, ...], dict[str, ArrayStream]]:
    """Return what is stored of the arrays in `streams`, quantised if that was requested."""
    quantization = request.settings(job.component).get("quantization")
    if quantization is None:
        return job.leaves, streams
    abstract = job.component.abstract(job.config, quantization)
    return quantize_streams(job.leaves, streams, abstract, quantization, job.config)


def _write(request: ConversionRequest, job: _Job, sources: tuple[SourceRecord, ...], progress: Progress) -> None:
    total = sum(job.opened.tensors[key].nbytes for leaf in job.leaves for key in leaf.keys)
    check = FiniteCheck(refuses=not request.allow_non_finite)
    with progress(f"converting {job.name}", total) as advance, replace_atomically(job.target) as folder:
        streams = {leaf.path: stream(leaf, job.opened.tensors, request.dtype, advance, check) for leaf in job.leaves}
        leaves, streams = _as_stored(request, job, streams)
        write_params(folder / PARAMS_FOLDER, unflatten(streams))
        for name, path in _extra_files(job).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
        write_description(
            folder,
            component=job.component.name,
            config=job.config,
            settings={**request.settings(job.component), **_transformer_type(job, sources)},
            sources=sources,
            leaves=leaves,
            streams=streams,
        )
    logger.info("%s: converted, %s", job.target, decimal(sum(array.nbytes for array in streams.values())))
    check.report(job.name)
    if unchecked := _unchecked(job, sources):
        logger.info("%s: %s have no checksums of their own, so flipped bits would go unnoticed", job.name, unchecked)


def _transformer_type(job: _Job, sources: tuple[SourceRecord, ...]) -> Mapping[str, TransformerType]:
    """Return what a transformer was trained for, as an entry of the manifest's settings; empty where nothing tells.

    A published file is known by its MD5 whatever its folder is called.
    """
    if job.component.name != "diffusion_transformer":
        return {}
    published = [path for path, md5 in PUBLISHED_MD5.items() if md5 in {record.md5 for record in sources}]
    for name in (*published, job.target.name):
        if (found := transformer_type(name)) is not None:
            return {"type": found}
    return {}


def _unchecked(job: _Job, sources: tuple[SourceRecord, ...]) -> str:
    """Return the files that have checksums neither in their format nor published, so that damage cannot be noticed."""
    compared = {Path(record.name).name for record in sources if record.published_md5 == "matches"}
    tensors = (job.opened.tensors[key] for leaf in job.leaves for key in leaf.keys)
    files = {tensor.stamp.path.name for tensor in tensors if tensor.record is None and tensor.nbytes}
    return ", ".join(sorted(files - compared))
