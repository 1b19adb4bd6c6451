"""The run of a request from beginning to end: it opens and places the networks, and makes one clip after the other."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from convert.lora.reading import read_adapters
from jax_interp.components import TABLE
from jax_interp.diffusion.branches import Branch, branches
from jax_interp.errors import JaxInterpError, ProcessFailure, UsageError, explain
from jax_interp.pipeline.base import Pipeline
from jax_interp.pipeline.jobs.agreements import (
    agree_on_machines,
    agree_on_work,
    ends_all,
    join_processes,
    least_memory,
    shared_fate,
)
from jax_interp.pipeline.jobs.clip import Clip, open_clip, settled
from jax_interp.pipeline.jobs.devices import choose_mesh
from jax_interp.pipeline.jobs.earlier_runs import is_finished, tidy_finished
from jax_interp.pipeline.jobs.job import run_job
from jax_interp.pipeline.jobs.kept_networks import KeptNetworks
from jax_interp.pipeline.jobs.kinds import kind_of
from jax_interp.pipeline.jobs.outputs import check_results
from jax_interp.pipeline.jobs.reporter import SILENT, Reporter
from jax_interp.pipeline.memory.placing import place
from jax_interp.pipeline.requests.request import GenerateRequest, Job
from jax_interp.pipeline.safety.guardrails import Guardrails
from jax_interp.pipeline.settings import InterpolationSettings, Video2WorldSettings
from jax_interp.runtime.checkpoint.finding import has_component
from jax_interp.runtime.compile_cache import enable_compile_cache
from jax_interp.runtime.mesh_shape import MeshShape

logger = logging.getLogger("jax_interp")

ResultT = TypeVar("ResultT")
Record = dict[str, Any]


def generate(request: GenerateRequest, reporter: Reporter = SILENT) -> list[Record]:
    """Make the clips of `request`; return the run records of those that were made now.

    In a batch, clips that are done already are left out, and a clip that fails does not stop the others. Of several
    processes the first one writes, and the others return no records.

    Raises:
        UsageError, MediaError, CheckpointError: before anything is loaded wherever that is possible.
        Blocked: the guardrails do not let a prompt or frames pass, or cannot be asked.
        OutOfMemory: no plan fits into the memory that is free.
        ProcessFailure: the processes do not agree, or one of them failed.
        JaxInterpError: clips of a batch failed; names them.
    """
    return generate_keeping(KeptNetworks(), request, reporter)


def generate_keeping(kept: KeptNetworks, request: GenerateRequest, reporter: Reporter = SILENT) -> list[Record]:
    """Do what `generate` does, with the networks that an earlier request has left in `kept`, and leave them there."""
    _check_upsampler(request)
    _check_prompts(request)
    memory = kept.limited(request.memory)
    is_first = join_processes(request.processes)
    enable_compile_cache()
    reporter.joined(is_first)
    asked, request = request, replace(request, jobs=tuple(map(_settled_if_possible, request.jobs)))
    pipeline = kept.matching(request)
    guardrails = pipeline.guardrails if pipeline else _open_guardrails(request)
    with shared_fate():
        if is_first:
            check_results(asked)
        agree_on_machines()
        mesh = choose_mesh(request.devices, request.jobs)
        if pipeline is None or pipeline.devices.shape != mesh:
            pipeline = kept.keep(request, _open(request, guardrails, mesh))
        _check_guardrails(guardrails, request)
        agree_on_work(pipeline, request)
        pairs = place(memory, pipeline, max(request.jobs, key=_size).settings, least_memory)
        _explain_empty_prompts(request)
        jobs = [replace(job, settings=job.settings.together(pairs)) for job in request.jobs]
        return _run_jobs(pipeline, replace(request, jobs=tuple(jobs)), reporter)


def open_networks(request: GenerateRequest) -> Pipeline:
    """Return the pipeline of `request` without loading anything, for plans of its memory.

    Raises:
        CheckpointError, UsageError: networks are missing, or do not suit the machine.
    """
    return _open(request, _open_guardrails(request), choose_mesh(request.devices, request.jobs))


def _settled_if_possible(job: Job) -> Job:
    """Return `job` as its input settles it; what is wrong with the input is reported when its turn comes."""
    try:
        return settled(job)
    except (JaxInterpError, OSError):
        return job


def _check_upsampler(request: GenerateRequest) -> None:
    """Raise `UsageError` if prompts are to be written by an upsampler that is missing, and that nobody asked for."""
    folder, wanted = request.networks.checkpoint_dir, any(job.upsampler is not None for job in request.jobs)
    if wanted and not request.upsampler_asked_for and not has_component(folder, "prompt_upsampler"):
        raise UsageError(
            f"no --prompt, and {folder} has no prompt upsampler to write one: give --prompt, fetch one"
            " (`jax-interp download --components prompt_upsampler`, 25 GB, then `jax-interp convert`), or pass"
            " --disable-prompt-upsampler for the empty prompt"
        )


def _check_prompts(request: GenerateRequest) -> None:
    """Raise `UsageError` if jobs need a prompt that is neither given nor will be written; in a batch it names them."""
    faults: dict[str, UsageError] = {}
    for job in request.jobs:
        if job.upsampler is None and isinstance(job.settings, Video2WorldSettings):
            try:
                job.settings.check_prompt()
            except UsageError as error:
                faults[job.video.name] = error
    if faults:
        first = next(iter(faults.values()))
        raise UsageError(f"{', '.join(faults)}: {first}") if request.is_batch else first


def _open_guardrails(request: GenerateRequest) -> Guardrails | None:
    """Return the guardrails of a run, None if they are disabled."""
    asked, networks = request.guardrails, request.networks
    if asked is None:
        logger.warning("guardrail: off. Neither prompts nor frames are checked; the run record says so")
        return None
    if networks.text_embeddings is not None:
        logger.warning(
            "--text-embeddings %s: the guardrails check a text, not what is given as its embedding",
            networks.text_embeddings,
        )
    folders = {f"{name}_dir": networks.folder(name) for name, row in TABLE.items() if row.is_guardrail}
    return Guardrails.open(
        networks.checkpoint_dir,
        **folders,
        frame_stride=asked.frame_stride,
        timeout=asked.timeout,
        quantization=networks.quantization,
    )


def _open(request: GenerateRequest, guardrails: Guardrails | None, mesh: MeshShape) -> Pipeline:
    """Open the networks of a run; no weight is read yet."""
    asked = request.networks
    pipeline = kind_of(request.jobs[0].settings).pipeline
    adapters = read_adapters(
        asked.adapters, asked.checkpoint_dir, asked.folder("diffusion_transformer"), pipeline.TRANSFORMER
    )
    return pipeline.from_pretrained(
        asked.checkpoint_dir,
        dtype=asked.dtype,
        rotary_precision=asked.rotary_precision,
        text_encoder_dtype=asked.text_encoder_dtype,
        diffusion_transformer_dir=asked.folder("diffusion_transformer"),
        tokenizer_dir=asked.folder("tokenizer"),
        text_encoder_dir=asked.folder("text_encoder"),
        prompt_upsampler=any(job.upsampler is not None for job in request.jobs),
        prompt_upsampler_dir=asked.folder("prompt_upsampler"),
        guardrails=guardrails or False,
        text_embeddings=asked.text_embeddings,
        embedding_cache=asked.embedding_cache,
        mesh=mesh,
        adapters=adapters,
        quantization=asked.quantization,
    )


def _check_guardrails(guardrails: Guardrails | None, request: GenerateRequest) -> None:
    """Raise `Blocked` if a guardrail that the clips need cannot be asked, before anything is loaded."""
    if guardrails is None:
        return
    texts = (job.upsampler or job.settings.prompt or job.settings.followed_negative_prompt for job in request.jobs)
    guardrails.require_ready("this run", prompts=any(texts))


def _explain_empty_prompts(request: GenerateRequest) -> None:
    """Log that clips stay without a prompt because it could not change them."""
    without = [
        job.settings
        for job in request.jobs
        if job.upsampler is None and isinstance(job.settings, InterpolationSettings) and not job.settings.prompt
    ]
    if any(Branch.CONDITIONAL not in branches(settings.sampling.guidance) for settings in without):
        logger.info(
            "prompt upsampler: skipped, since at guidance -1 the prompt cannot change the result; --prompt-upsampler"
            " runs it all the same"
        )


def _size(job: Job) -> int:
    """Return the pixels of a pair, which decide how much memory a clip takes."""
    return job.settings.height * job.settings.width * job.settings.num_video_frames


def _run_jobs(interpolator: Pipeline, request: GenerateRequest, reporter: Reporter) -> list[Record]:
    records: list[Record] = []
    failed: dict[Path, int] = {}

    def attempt(job: Job, do: Callable[[], ResultT], raises: Callable[[Exception], bool]) -> ResultT | None:
        """Return what `do` returns; None if it fails and that does not end the run."""
        try:
            return do()
        except (JaxInterpError, OSError) as error:
            if not request.is_batch or raises(error):
                raise
            reporter.failed(job, error)
            failed[job.video] = explain(error)[1]
            return None

    for job in request.jobs:
        clip = attempt(job, lambda job=job: _begin(interpolator, job, request, reporter), _is_process_failure)
        if clip is not None:
            record = attempt(job, lambda job=job, clip=clip: _make(interpolator, job, clip, reporter), ends_all)
            records += [record] if record is not None else []
    if failed:
        raise _all_failed(failed, len(request.jobs))
    return records


def _is_process_failure(error: Exception) -> bool:
    return isinstance(error, ProcessFailure)


def _begin(interpolator: Pipeline, job: Job, request: GenerateRequest, reporter: Reporter) -> Clip | None:
    """Open the input of `job`; return None for a clip that is done already and is not to be made again."""
    if (request.is_batch or request.keeps_finished) and is_finished(interpolator, job):
        reporter.already_there(job)
        tidy_finished(interpolator, job)
        return None
    return open_clip(interpolator, job)


def _make(interpolator: Pipeline, job: Job, clip: Clip, reporter: Reporter) -> Record | None:
    """Make `job` and return its run record; None in processes that do not write."""
    with reporter.making(job) as advance:
        record = run_job(interpolator, job, advance, clip, lambda frames: reporter.pair_made(job, frames))
    if record is not None:
        reporter.made(job, record)
    return record


def _all_failed(failed: dict[Path, int], count: int) -> JaxInterpError:
    """Return the error with which a batch ends if clips failed; `failed` has the exit code of each."""
    names = ", ".join(video.name for video in failed)
    error = JaxInterpError(f"{len(failed)} of {count} clips failed: {names}")
    error.in_all_processes = True  # what only one of them knows has ended all before
    if len(codes := set(failed.values())) == 1:  # all for the same reason
        [error.exit_code] = codes
    return error
