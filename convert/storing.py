"""Writing one network of a checkpoint folder into a converted folder, calibrated before if that was asked for."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.filesize import decimal

from convert.hub.catalog import PUBLISHED_MD5
from convert.mapping.matching import Leaf
from convert.networks.component import EXTRA_FOLDER
from convert.progress import Progress
from convert.request import Calibrate, ConversionRequest, Job
from convert.source.provenance import SourceRecord
from convert.target.calibration import write_calibration
from convert.target.finite import FiniteCheck
from convert.target.folders import replace_atomically
from convert.target.manifest import write_description
from convert.target.quantize import quantize_streams
from convert.target.streams import stream
from jax_interp.components import TABLE, TransformerType, transformer_type
from jax_interp.errors import UsageError
from jax_interp.nn.params import unflatten
from jax_interp.runtime.checkpoint.calibration import Calibration
from jax_interp.runtime.checkpoint.converted import open_component
from jax_interp.runtime.checkpoint.description import PARAMS_FOLDER
from jax_interp.runtime.checkpoint.finding import find_component, has_component
from jax_interp.runtime.checkpoint.param_files import ArrayStream, write_params

logger = logging.getLogger("jax_interp")

_DESCRIPTION_BYTES = 1 << 24
"""Bytes that are reserved for the files besides the weights."""


def _extra_files(job: Job) -> dict[str, Path]:
    """Return the files that are copied as they are, by name in the converted folder."""
    names = (*job.component.required_files, *job.component.optional_files)
    own = {f"{EXTRA_FOLDER}/{name}": path for name in names if (path := job.opened.folder / name).is_file()}
    return own | dict(job.copied)


def bytes_needed(request: ConversionRequest, job: Job) -> int:
    """Return the bytes of the disk that a network takes at most while it is converted."""
    streams = {leaf.path: stream(leaf, job.opened.tensors, request.dtype, int) for leaf in job.leaves}
    if "calibration" not in request.settings(job.component):
        _, streams = _as_stored(request, job, streams)
    # What is calibrated is on the disk unquantised first, which is more.
    arrays = sum(array.nbytes for array in streams.values())
    return arrays + sum(path.stat().st_size for path in _extra_files(job).values()) + _DESCRIPTION_BYTES


def _as_stored(
    request: ConversionRequest, job: Job, streams: dict[str, ArrayStream], calibration: Calibration | None = None
) -> tuple[tuple[Leaf, ...], dict[str, ArrayStream]]:
    """Return what is stored of the arrays in `streams`, quantised if that was requested."""
    quantization = request.settings(job.component).get("quantization")
    if quantization is None:
        return job.leaves, streams
    abstract = job.component.abstract(job.config, quantization)
    factors = None if calibration is None else calibration.factors
    return quantize_streams(job.leaves, streams, abstract, quantization, job.config, factors)


def write_network(request: ConversionRequest, job: Job, sources: tuple[SourceRecord, ...], progress: Progress) -> None:
    """Convert a network, which appears under its name only when it is complete; `sources` are the records of its files.

    Raises:
        CheckpointError: files are damaged, hold weights that are not finite, or the disk is full.
        JaxInterpError: a calibration that was asked for fails, as its clip turns out damaged.
    """
    with replace_atomically(job.target) as folder:
        calibration = _calibrated(request, job, sources, folder, progress)
        size = _store(folder, request, job, sources, progress, calibration)
    logger.info("%s: converted, %s", job.target, decimal(size))
    if unchecked := _unchecked(job, sources):
        logger.info("%s: %s have no checksums of their own, so flipped bits would go unnoticed", job.name, unchecked)


def _store(
    folder: Path,
    request: ConversionRequest,
    job: Job,
    sources: tuple[SourceRecord, ...],
    progress: Progress,
    calibration: Calibration | None = None,
) -> int:
    """Write a network into an empty folder, and return the bytes of its arrays."""
    total = sum(job.opened.tensors[key].nbytes for leaf in job.leaves for key in leaf.keys)
    check = FiniteCheck(refuses=not request.allow_non_finite)
    settings = {**request.settings(job.component), **_transformer_type(job, sources)}
    with progress(f"converting {job.name}", total) as advance:
        streams = {leaf.path: stream(leaf, job.opened.tensors, request.dtype, advance, check) for leaf in job.leaves}
        leaves, streams = _as_stored(request, job, streams, calibration)
        write_params(folder / PARAMS_FOLDER, unflatten(streams))
        for name, path in _extra_files(job).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
        if calibration is not None:
            write_calibration(folder, calibration)
            settings["calibration"] = calibration.report.settings
        write_description(
            folder,
            component=job.component.name,
            config=job.config,
            settings=settings,
            sources=sources,
            leaves=leaves,
            streams=streams,
        )
    check.report(job.name)
    return sum(array.nbytes for array in streams.values())


def check_calibration(calibrate: Calibrate, output_dir: Path, jobs: list[Job]) -> None:
    """Raise an error unless there is something to calibrate, and what it takes."""
    transformers = [job for job in jobs if TABLE[job.component.name].smooths]
    if not transformers:
        raise UsageError(
            f"--calibrate: of {', '.join(job.component.name for job in jobs)} none has a calibration, which only"
            " transformers have; leave it out, or convert a transformer with it (--components diffusion_transformer)"
        )
    configs = [job.config for job in jobs if job.component.name == "tokenizer"]
    if not configs and not has_component(output_dir, "tokenizer"):
        raise UsageError(
            f"--calibrate: needs the tokenizer, which is neither converted in {output_dir} nor among what is to be; add"
            " tokenizer to --components"
        )
    tokenizer = configs[0] if configs else find_component(output_dir, "tokenizer").config
    for job in transformers:
        calibrate.check(job.config, tokenizer, transformer_type(job.target.name) or "WorldInterpolator")


def _calibrated(
    request: ConversionRequest, job: Job, sources: tuple[SourceRecord, ...], folder: Path, progress: Progress
) -> Calibration | None:
    """Return the calibration of a network that is to be smoothed, which is converted into `folder` for that.

    `folder` is empty again afterwards.
    """
    if request.calibrate is None or "calibration" not in request.settings(job.component):
        return None
    plain = folder / job.target.name  # a transformer's folder may tell what it was trained for
    plain.mkdir()
    _store(plain, replace(request, quantization="none", calibrate=None), job, sources, progress)
    tokenizer, text_encoder = find_component(request.output_dir, "tokenizer"), None
    if has_component(request.output_dir, "text_encoder"):
        text_encoder = find_component(request.output_dir, "text_encoder")
    if text_encoder is None:
        logger.warning(
            "%s: calibrated without a text, since there is no text encoder in %s; what its cross-attention gives stays"
            " in int8 without factors",
            job.name,
            request.output_dir,
        )
    calibration = request.calibrate(open_component(plain), tokenizer, text_encoder, progress)
    shutil.rmtree(plain)
    return calibration


def _transformer_type(job: Job, sources: tuple[SourceRecord, ...]) -> Mapping[str, TransformerType]:
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


def _unchecked(job: Job, sources: tuple[SourceRecord, ...]) -> str:
    """Return the files that have checksums neither in their format nor published, so that damage cannot be noticed."""
    compared = {Path(record.name).name for record in sources if record.published_md5 == "matches"}
    tensors = (job.opened.tensors[key] for leaf in job.leaves for key in leaf.keys)
    files = {tensor.stamp.path.name for tensor in tensors if tensor.record is None and tensor.nbytes}
    return ", ".join(sorted(files - compared))
