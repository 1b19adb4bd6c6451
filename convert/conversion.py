"""Upstream's checkpoint folder to a converted one: what to do is settled and checked first, then written."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.hub.catalog import TRANSFORMERS
from convert.networks.component import EXTRA_FOLDER, Component
from convert.networks.components import COMPONENTS, named
from convert.progress import Progress, no_progress
from convert.request import ConversionRequest, Job
from convert.source.adapter import merge_adapter
from convert.source.checkpoint_files import infer_network, locate, open_checkpoint
from convert.source.provenance import Md5Policy, SourceRecord, check_published, record_sources
from convert.storing import bytes_needed, check_calibration, write_network
from convert.target.folders import check_space, clear_leftovers, refuse_foreign_files, writer_lock
from jax_interp.components import TABLE
from jax_interp.errors import CheckpointError, UsageError
from jax_interp.runtime.checkpoint.calibration import REPORT_FILE, STATISTICS_FILE
from jax_interp.runtime.checkpoint.converted import open_component
from jax_interp.runtime.checkpoint.description import CONFIG_FILE, MANIFEST_FILE, PARAMS_FOLDER

__all__ = ["ConversionRequest", "Md5Policy", "convert_checkpoints"]

logger = logging.getLogger("jax_interp")

_OWN_NAMES = {CONFIG_FILE, MANIFEST_FILE, PARAMS_FOLDER, EXTRA_FOLDER, REPORT_FILE, STATISTICS_FILE}
_OWN_NAMES |= {component.companion.into for component in COMPONENTS.values() if component.companion}


def convert_checkpoints(request: ConversionRequest, progress: Progress = no_progress) -> list[Path]:
    """Convert every requested network and return their folders; those that are done already are left alone.

    Each appears under its name only when it is complete. All checks of all networks come before the first write.

    Raises:
        UsageError: a component or folder name cannot be, or a calibration lacks what it takes.
        MediaError: the clip of a calibration cannot be read, or has fewer than two frames.
        CheckpointError: files are missing, damaged or not of the network, hold weights that are not finite, differ
            from what is converted already, or the disk is or would be full.
    """
    chosen = _choose(request)
    with writer_lock(request.output_dir):
        for _, name in chosen:
            if clear_leftovers(request.output_dir / name):
                logger.info("%s: removed what an interrupted conversion had left", name)
        jobs = [_prepare(request, component, name) for component, name in chosen]
        if request.calibrate is not None:
            check_calibration(request.calibrate, request.output_dir, jobs)
            # A calibration runs the other networks, so they come first.
            jobs.sort(key=lambda job: TABLE[job.component.name].smooths)
        todo = _settle(request, jobs, progress)
        check_space(request.output_dir, sum(bytes_needed(request, job) for job, _ in todo))
        for job, sources in todo:
            write_network(request, job, sources, progress)
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


def _prepare(request: ConversionRequest, component: Component, name: str) -> Job:
    """Open a network's files, tell its architecture, and check every key and shape."""
    target = request.output_dir / name
    existing = _existing(request, target)
    opened = open_checkpoint(component, request.checkpoint_dir / name, request.weights)
    opened, copied = merge_adapter(component.adapter, opened, request.checkpoint_dir)
    if component.companion is not None:
        copied |= component.companion.find(opened.folder, request.checkpoint_dir)
    config, leaves = infer_network(component, opened)
    return Job(component, name, target, opened, config, leaves, existing, copied)


def _existing(request: ConversionRequest, target: Path) -> Mapping[str, Any]:
    if not target.exists():
        return {}
    refuse_foreign_files(target, _OWN_NAMES)
    return {} if request.overwrite else open_component(target).manifest


def _settle(
    request: ConversionRequest, jobs: list[Job], progress: Progress
) -> list[tuple[Job, tuple[SourceRecord, ...]]]:
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
    different = [key for key in keys if _comparable(old.get(key)) != settings.get(key)]
    return faults + [f"with {key} {_said(old.get(key))}" for key in different]


def _comparable(setting: Any) -> Any:
    """Return a stored setting without what only a finished calibration knows."""
    return (
        {name: value for name, value in setting.items() if name != "factors_sha256"}
        if isinstance(setting, dict)
        else setting
    )


def _said(setting: Any) -> str:
    return "on {clip} at {height}×{width}".format(**setting) if isinstance(setting, dict) else str(setting)
