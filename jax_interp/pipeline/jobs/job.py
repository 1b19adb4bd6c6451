"""One clip from input files to output files: decoded once, interpolated and written pair by pair, resumable."""

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import dropwhile
from pathlib import Path
from typing import Any

import numpy as np

from jax_interp.errors import Blocked, JaxInterpError
from jax_interp.files.atomic import write_atomically
from jax_interp.files.lock import lock_path
from jax_interp.media.output import as_media_error
from jax_interp.media.pairs import iterate_pairs, join_pairs
from jax_interp.media.writer import PngWriter, TeeWriter, VideoWriter
from jax_interp.pipeline.interpolator import Interpolator
from jax_interp.pipeline.jobs.blocked import remove_results
from jax_interp.pipeline.jobs.clip import Clip, open_clip
from jax_interp.pipeline.jobs.outputs import check_outputs, held_results, is_of, own_record
from jax_interp.pipeline.jobs.pair_store import CLAIM, PairStore
from jax_interp.pipeline.jobs.record import fingerprint, run_record
from jax_interp.pipeline.requests.request import Job
from jax_interp.pipeline.results import InterpolatedPair
from jax_interp.runtime import processes

logger = logging.getLogger("jax_interp")

JobProgress = Callable[[int, int, int, int], None]
"""Called with (pair, pairs, network calls done within the pair's batch, network calls in all)."""


def run_job(
    interpolator: Interpolator, job: Job, progress: JobProgress | None = None, clip: Clip | None = None
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
    with _only_writer(job) as was_killed:
        if was_killed and is_finished(interpolator, job):
            logger.info("%s: was finished before", job.video)
            return _tidy(interpolator, job)
        if processes.is_first():
            return _write(interpolator, job, clip, progress)
        for _ in _begin(interpolator, job, clip, progress).new_pairs:
            pass  # the first process keeps the frames
        return None


@contextmanager
def _only_writer(job: Job) -> Iterator[bool]:
    """Hold the results of `job`, which process 0 does; yields whether a run was killed that had held them.

    Raises:
        UsageError, MediaError: they cannot be held, or not be replaced; in all processes the same.
    """
    with ExitStack() as stack:
        was_killed, problem = False, None
        if processes.is_first():
            try:
                was_killed = stack.enter_context(held_results(job))
                check_outputs([job])
            except (JaxInterpError, OSError) as error:
                problem = error
        said = None if problem is None else [str(problem), getattr(problem, "exit_code", JaxInterpError.exit_code)]
        was_killed, said = processes.decide(f"who writes {job.video.name}", [was_killed, said], timeout=None)
        if said is not None:
            error = JaxInterpError(said[0])
            error.exit_code, error.in_all_processes = said[1], True
            raise error if problem is None or processes.count() > 1 else problem
        yield was_killed


def _tidy(interpolator: Interpolator, job: Job) -> dict[str, Any] | None:
    """Remove what a run left that was killed when it had finished and removed what it needed no more."""
    if not processes.is_first():
        return None
    PairStore(job.video, _identity(interpolator, job)).remove()
    return own_record(job)


def tidy_finished(interpolator: Interpolator, job: Job) -> None:
    """The same for a job that is known to be finished, and of which a killed run may have left something."""
    if processes.is_first() and lock_path(job.video).exists():
        with suppress(JaxInterpError), held_results(job):
            _tidy(interpolator, job)


def _identity(interpolator: Interpolator, job: Job) -> str:
    return fingerprint(interpolator, job.settings, job.inputs, job.upsampler, job.exact_rate)


def _write(interpolator: Interpolator, job: Job, clip: Clip, progress: JobProgress | None) -> dict[str, Any]:
    started = time.perf_counter()
    identity = _identity(interpolator, job)
    store = PairStore(job.video, identity)
    for folder in store.others():
        logger.warning("%s is of an interrupted run with other settings; remove it if it is not wanted", folder)
    if interpolator.guardrails is not None:
        interpolator.guardrails.start_counting()
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
        if _is_blocked(error):  # nothing of it stays, nor is any of it taken up again
            partials = [writer.partial for writer in writers]
            remove_results(store, partials, job.prompt_file, job.settings.prompt)
        raise
    record = run_record(
        interpolator,
        job.settings,
        job.upsampler,
        fingerprint=identity,
        input={"files": [str(path) for path in job.inputs], **clip.source.description},
        output=_description(job),
        pairs=clip.num_pairs,
        frames=writer.num_frames,
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


def _description(job: Job) -> dict[str, Any]:
    """What the record says of the results."""
    return {
        "video": str(job.video),
        "bytes": job.video.stat().st_size,
        "frames_folder": str(job.frames_folder) if job.frames_folder else None,
        "fps": str(job.exact_rate),
    }


def _is_blocked(error: BaseException | None) -> bool:
    """Whether `error` is `Blocked`, or was raised while that was on its way."""
    return error is not None and (isinstance(error, Blocked) or _is_blocked(error.__context__))


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
    interpolator: Interpolator, job: Job, clip: Clip, progress: JobProgress | None, store: PairStore | None = None
) -> _Begun:
    """Settle the prompt and what is left to do, in all processes; `store` is process 0's.

    `Interpolator.stream` asks the guardrails: before anybody sees the prompt, and also where no pair is left.
    """
    job, is_new = _with_prompt(interpolator, job, clip, store)
    done = _agree_on_start(job, _finished_pairs(interpolator, job, clip, store) if store else None)
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
    kept = processes.decide(f"the prompt of {job.video.name}", store.prompt() if store else None, timeout=None)
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
    settings = job.settings
    yield VideoWriter(job.video, job.exact_rate, settings.height, settings.width)
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


def _finished_pairs(interpolator: Interpolator, job: Job, clip: Clip, store: PairStore) -> int:
    """How many pairs of an interrupted run this one goes on after."""
    settings = job.settings
    done = store.finished(clip.num_pairs, (settings.num_video_frames, settings.height, settings.width, 3))
    done = _trusted_pairs(store, done) if interpolator.guardrails else done
    if done:
        logger.info("going on after pair %d of %d", done, clip.num_pairs)
    return done


def _trusted_pairs(store: PairStore, done: int) -> int:
    """How many of the `done` pairs in `store` guardrails have let pass, so that they need not be checked again."""
    if not done:
        return 0
    try:
        store.check_private()
    except OSError as error:
        logger.warning("%d finished pair(s) are not taken up but made again, and checked: %s", done, error)
        return 0
    return next((index for index in range(done) if store.checked(index) is None), done)


def _agree_on_start(job: Job, done: int | None = None) -> int:
    """How many pairs are finished, which process 0 knows."""
    return processes.decide(f"finished pairs of {job.video.name}", done, timeout=None)


def is_finished(interpolator: Interpolator, job: Job) -> bool:
    """Whether this very job has run to its end before: same settings, input and networks, and its results are there.

    Process 0 looks, for all.
    """
    found = processes.is_first() and _has_results(interpolator, job)
    return processes.decide(f"whether {job.video.name} is there", found, timeout=None)


def _has_results(interpolator: Interpolator, job: Job) -> bool:
    record, identity = own_record(job), _identity(interpolator, job)
    if record is None or record["fingerprint"] != identity:
        return False
    made = job.video.exists() and is_of(record, job.video, job)
    made = made and (job.frames_folder is None or job.frames_folder.exists())
    # What a run with other settings had begun to put there before it was killed is not what the record describes.
    return made and not any((folder / CLAIM).exists() for folder in PairStore(job.video, identity).others())
