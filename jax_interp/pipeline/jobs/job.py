"""One clip from input files to output files: decoded once, interpolated and written pair by pair, resumable."""

import json
import logging
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import dropwhile
from pathlib import Path
from typing import Any

import numpy as np

from jax_interp.files.atomic import write_atomically
from jax_interp.media.output import as_media_error
from jax_interp.media.pairs import iterate_pairs, join_pairs
from jax_interp.media.writer import PngWriter, TeeWriter, VideoWriter
from jax_interp.pipeline.interpolator import Interpolator
from jax_interp.pipeline.jobs.agreements import agreed_prompt, agreed_start, is_first, only_writer
from jax_interp.pipeline.jobs.blocked import is_blocked, remove_results
from jax_interp.pipeline.jobs.clip import Clip, open_clip
from jax_interp.pipeline.jobs.earlier_runs import finished_pairs, identity_of, is_finished, tidy
from jax_interp.pipeline.jobs.pair_store import PairStore
from jax_interp.pipeline.jobs.record import run_record
from jax_interp.pipeline.jobs.reporter import Advance
from jax_interp.pipeline.requests.request import Job
from jax_interp.pipeline.results import InterpolatedPair

logger = logging.getLogger("jax_interp")


def run_job(
    interpolator: Interpolator, job: Job, progress: Advance | None = None, clip: Clip | None = None
) -> dict[str, Any] | None:
    """Write the video, the prompt as text, the record and, if asked for, the frames; returns the record.

    Stops with nothing half-written under the final names. What is finished of an interrupted run is kept beside the
    video and used when the same job runs again. `clip` is its `open_clip`, if that was called before. Of several
    processes the first one writes, and the others return None.

    Raises:
        UsageError, MediaError, CheckpointError: before anything is loaded wherever that is possible; also if another
            run is writing one of the results, or a result would replace an input or what is not this program's.
        Blocked: the guardrails do not let prompt or frames pass; nothing of the result is left.
    """
    interpolator.timings.clear()
    clip = clip or open_clip(interpolator, job)
    with only_writer(job) as was_killed:
        if was_killed and is_finished(interpolator, job):
            logger.info("%s: was finished before", job.video)
            return tidy(interpolator, job)
        if is_first():
            return _write(interpolator, job, clip, progress)
        for _ in _begin(interpolator, job, clip, progress).new_pairs:
            pass  # the first process keeps the frames
        return None


def _write(interpolator: Interpolator, job: Job, clip: Clip, progress: Advance | None) -> dict[str, Any]:
    """Make and write all of `job`, in the first process; returns the record."""
    started = time.perf_counter()
    identity = identity_of(interpolator, job)
    store = PairStore(job.video, identity)
    for folder in store.others():
        logger.warning("%s is of an interrupted run with other settings; remove it if it is not wanted", folder)
    if interpolator.guardrails is not None:
        interpolator.guardrails.start_counting()
    job, num_frames = _write_frames(interpolator, job, clip, progress, store)
    record = run_record(
        interpolator,
        job.settings,
        job.upsampler,
        fingerprint=identity,
        input={"files": [str(path) for path in job.inputs], **clip.source.description},
        output=_description(job),
        pairs=clip.num_pairs,
        frames=num_frames,
        total_seconds=round(time.perf_counter() - started, 3),
    )
    for path, text in (
        (job.prompt_file, job.settings.prompt),
        (job.record, json.dumps(record, indent=2, ensure_ascii=False)),
    ):
        with as_media_error(path):
            write_atomically(path, f"{text}\n".encode())
    store.take_over()
    store.remove()
    return record


def _write_frames(
    interpolator: Interpolator, job: Job, clip: Clip, progress: Advance | None, store: PairStore
) -> tuple[Job, int]:
    """Write video and frames; returns `job` with its prompt, and how many frames there are.

    Of what is blocked nothing stays, nor is any of it taken up again.
    """
    writers = tuple(_writers(job, store))  # refuses a folder of frames that is not to be replaced
    if job.video.exists():
        logger.info("%s is there already; this run replaces it once it is done", job.video)
    try:
        begun = _begin(interpolator, job, clip, progress, store)
        job = begun.job
        with TeeWriter(*writers) as writer:
            for frames in join_pairs(_all_pairs(interpolator, begun, store)):
                writer.write(frames)
            store.note_results(dict(zip(_results(job), (writer.partial for writer in writers), strict=True)))
            store.claim(job.frames_folder)
    except BaseException as error:
        if is_blocked(error):
            partials = [writer.partial for writer in writers]
            remove_results(store, partials, job.prompt_file, job.settings.prompt)
        raise
    return job, writer.num_frames


def _description(job: Job) -> dict[str, Any]:
    """What the record says of the results."""
    return {
        "video": str(job.video),
        "bytes": job.video.stat().st_size,
        "frames_folder": str(job.frames_folder) if job.frames_folder else None,
        "fps": str(job.exact_rate),
        **job.encoding.facts(job.video),
    }


@dataclass(frozen=True)
class _Begun:
    """A job that has passed the door."""

    job: Job
    """With its prompt."""
    done: int
    """How many pairs an interrupted run left."""
    new_pairs: Iterator[InterpolatedPair]
    """Those that are still to be made."""


def _begin(
    interpolator: Interpolator, job: Job, clip: Clip, progress: Advance | None, store: PairStore | None = None
) -> _Begun:
    """Settle the prompt and what is left to do, in all processes; `store` is the first one's.

    `Interpolator.stream` asks the guardrails: before anybody sees the prompt, and also where no pair is left.
    """
    job, is_new = _with_prompt(interpolator, job, clip, store)
    done = agreed_start(job, finished_pairs(interpolator, job, clip, store) if store else None)
    settings, count = job.settings, clip.num_pairs
    pairs = iterate_pairs(iter(clip.source), settings.frame_stride, settings.frame_index_start, count)
    missing = dropwhile(lambda pair: pair[0] < done, pairs)
    report = None if progress is None else lambda pair, call, calls: progress(pair, count, call, calls)
    new_pairs = interpolator.stream(missing, settings, report)
    if is_new:
        logger.info("prompt: %s", job.settings.prompt)
        if store is not None:
            store.keep_prompt(job.settings.prompt)
    return _Begun(job, done, new_pairs if done < count else iter(()))


def _with_prompt(interpolator: Interpolator, job: Job, clip: Clip, store: PairStore | None) -> tuple[Job, bool]:
    """`job` with its prompt, and whether the upsampler has just written that: an interrupted run may have kept one."""
    if job.upsampler is None:
        return job, False
    kept = agreed_prompt(job, store.prompt() if store else None)
    prompt = kept
    if prompt is None:
        [last] = deque(clip.source, maxlen=1)
        seed = job.settings.sampling.seed
        prompt = interpolator.upsample_prompt(last, job.upsampler, seed, run=job.settings)
    return replace(job, settings=replace(job.settings, prompt=prompt)), kept is None


def _results(job: Job) -> list[Path]:
    """Where what `_writers` give goes."""
    return [job.video] if job.frames_folder is None else [job.video, job.frames_folder.resolve()]


def _writers(job: Job, store: PairStore) -> Iterator[VideoWriter | PngWriter]:
    """The video's writer and, if the frames are wanted, theirs; nothing is opened yet."""
    settings, encoding = job.settings, job.encoding
    yield VideoWriter(
        job.video,
        job.exact_rate,
        settings.height,
        settings.width,
        codec=encoding.codec,
        crf=encoding.crf,
        pixel_format=encoding.pixel_format,
    )
    if job.frames_folder is not None:
        yield PngWriter(job.frames_folder, overwrite=job.overwrite or store.claims(job.frames_folder))


def _all_pairs(interpolator: Interpolator, begun: _Begun, store: PairStore) -> Iterator[np.ndarray]:
    """Frames of every pair in order: first those that an interrupted run left, then new ones."""
    guardrails = interpolator.guardrails
    if guardrails is not None and begun.done and (checked := store.checked(begun.done - 1)):
        guardrails.go_on_counting(checked)
    for index in range(begun.done):
        yield store.load(index)
    for pair in begun.new_pairs:
        store.save(pair.index, pair.frames, guardrails.facts() if guardrails else None)
        yield pair.frames
