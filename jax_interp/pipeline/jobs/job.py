"""One clip from input files to output files: decoded once, interpolated and written pair by pair, resumable."""

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from jax_interp.files.atomic import write_atomically
from jax_interp.media.output import as_media_error
from jax_interp.media.timeline.pieces import Piece, Tally
from jax_interp.media.timeline.plan import ClipPlan
from jax_interp.media.video.streams.carrying import CarriedStreams
from jax_interp.media.writer import PngWriter, TeeWriter, VideoWriter
from jax_interp.pipeline.base import Pipeline
from jax_interp.pipeline.jobs.agreements import agreed_prompt, agreed_start, is_first, only_writer
from jax_interp.pipeline.jobs.blocked import is_blocked, remove_results
from jax_interp.pipeline.jobs.clip import Clip, open_clip, settled, warn_of_errors
from jax_interp.pipeline.jobs.earlier_runs import finished_pairs, identity_of, is_finished, tidy
from jax_interp.pipeline.jobs.kinds import kind_of
from jax_interp.pipeline.jobs.pair_store import PairStore
from jax_interp.pipeline.jobs.record import run_record
from jax_interp.pipeline.jobs.reporter import Advance
from jax_interp.pipeline.planned_clip import Shown, output_frames
from jax_interp.pipeline.requests.request import Job
from jax_interp.pipeline.results import InterpolatedPair

logger = logging.getLogger("jax_interp")

ShowPair = Callable[[np.ndarray], None]


def run_job(
    interpolator: Pipeline,
    job: Job,
    progress: Advance | None = None,
    clip: Clip | None = None,
    show: ShowPair | None = None,
) -> dict[str, Any] | None:
    """Write the video, the prompt as text, the record and, if asked for, the frames; return the record.

    However this ends, nothing half-written has a final name. Pairs that an interrupted run finished are kept beside the
    video and used when the same job runs again. `clip` is what `open_clip` returned for it, if that was called before.
    `show` is called with the frames of each pair that is written, those of an interrupted run included.
    Of several processes the first one writes, and the others return None.

    Raises:
        UsageError, MediaError, CheckpointError: before anything is loaded wherever that is possible; also if another
            run is writing one of the results, or a result would replace an input or what is not this program's.
        Blocked: the guardrails do not let prompt or frames pass; nothing of the result is left.
    """
    interpolator.timings.clear()
    clip = clip or open_clip(interpolator, job)
    job = settled(job)
    with only_writer(job) as was_killed:
        if was_killed and is_finished(interpolator, job):
            logger.info("%s: was finished before", job.video)
            return tidy(interpolator, job)
        if is_first():
            return _write(interpolator, job, clip, progress, show)
        for _ in _begin(interpolator, job, clip, progress).new_pairs:
            pass  # the first process keeps the frames
        return None


def _write(
    interpolator: Pipeline, job: Job, clip: Clip, progress: Advance | None, show: ShowPair | None
) -> dict[str, Any]:
    """Make and write all of `job`, in the first process; return the record."""
    started = time.perf_counter()
    identity = identity_of(interpolator, job)
    store = PairStore(job.video, identity)
    for folder in store.others():
        logger.warning("%s is of an interrupted run with other settings; remove it if it is not wanted", folder)
    if interpolator.guardrails is not None:
        interpolator.guardrails.start_counting()
    tally = Tally()
    job = _write_frames(interpolator, job, clip, progress, store, tally, show)
    if isinstance(clip.plan, ClipPlan) and tally.largest_error > clip.foreseen.largest_error:
        warn_of_errors(clip.plan, tally)  # duplicates made pairs longer
    record = run_record(
        interpolator,
        job.settings,
        job.upsampler,
        fingerprint=identity,
        input={"files": [str(path) for path in job.inputs], **clip.source.description},
        output=_description(job, clip),
        timeline=_timeline_facts(clip, tally),
        carried_over=clip.streams.said if clip.streams else None,
        pairs=tally.num_pairs,
        frames=tally.num_frames,
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
    interpolator: Pipeline,
    job: Job,
    clip: Clip,
    progress: Advance | None,
    store: PairStore,
    tally: Tally,
    show: ShowPair | None,
) -> Job:
    """Write video and frames, and count in `tally`; return `job` with its prompt.

    If the guardrails block the clip, all of its files are removed, its finished pairs too.
    """
    writers = tuple(_writers(job, clip, store))  # refuses a folder of frames that is not to be replaced
    if job.video.exists():
        logger.info("%s is there already; this run replaces it once it is done", job.video)
    try:
        begun = _begin(interpolator, job, clip, progress, store, tally)
        job = begun.job
        with TeeWriter(*writers) as writer:
            for frames, shown in _all_pairs(interpolator, begun, store):
                if show is not None:
                    show(frames)
                for frame in output_frames(frames, shown, clip.shape):
                    writer.write(frame)
            store.note_results(dict(zip(_results(job), (writer.partial for writer in writers), strict=True)))
            store.claim(job.frames_folder)
    except BaseException as error:
        if is_blocked(error):
            partials = [writer.partial for writer in writers]
            remove_results(store, partials, job.prompt_file, job.settings.prompt)
        raise
    return job


def _timeline_facts(clip: Clip, tally: Tally) -> dict[str, Any] | None:
    """Return what the record says of the output's time, None for a clip that is continued.

    `scene_cuts` can be given back with `--scene-cuts`.
    """
    plan = clip.plan
    if not isinstance(plan, ClipPlan):
        return None
    timeline = plan.timeline
    return {
        "pace": "source" if timeline.follows_source else "upstream",
        "rate": str(plan.rate),
        "slow_motion": str(timeline.slowed),
        "keyframes": "original" if timeline.original_keyframes else "decoded",
        "duplicates": timeline.duplicates,
        "merged_frames": tally.merged,
        "scene_cuts_from": timeline.scene_cuts if isinstance(timeline.scene_cuts, str) else "given",
        "scene_cuts": tally.cuts,
        "largest_error_seconds": round(float(tally.largest_error / plan.rate), 6),
        "largest_error_frames": round(float(tally.largest_error), 4),
        "input_seconds": [round(float(moment), 6) for moment in plan.span],
    }


def _description(job: Job, clip: Clip) -> dict[str, Any]:
    """Return what the record says of the results."""
    shape = clip.shape
    return {
        "video": str(job.video),
        "bytes": job.video.stat().st_size,
        "frames_folder": str(job.frames_folder) if job.frames_folder else None,
        "fps": str(clip.plan.rate),
        "height": shape.inner.height,
        "width": shape.inner.width,
        "aspect": "stretched" if shape.stretched else f"kept, at {shape.network} with reflected edges",
        **job.encoding.facts(job.video),
    }


@dataclass(frozen=True)
class _Begun:
    """A job whose prompt is settled, and how much of it is left to do."""

    job: Job
    """The job, with its prompt."""
    done: int
    """The number of pieces that an interrupted run finished."""
    pieces: Iterator[Piece[Any]]
    """All pieces; the first process takes those that are done, and `new_pairs` the others."""
    new_pairs: Iterator[InterpolatedPair]
    """The pieces that are still to be made."""
    shown: deque[Shown]
    """Which frames of each new piece the output shows, as far as they were taken up."""


def _begin(
    interpolator: Pipeline,
    job: Job,
    clip: Clip,
    progress: Advance | None,
    store: PairStore | None = None,
    tally: Tally | None = None,
) -> _Begun:
    """Settle the prompt and what is left to do, in all processes; only the first one has a `store` and a `tally`.

    `Pipeline.stream` asks the guardrails: before anybody sees the prompt, and also where no pair is left.
    """
    job, is_new = _with_prompt(interpolator, job, clip, store)
    done = agreed_start(job, finished_pairs(interpolator, job, clip, store) if store else None)
    settings, count = job.settings, clip.most_pieces
    pieces, shown = clip.plan.pieces(tally or Tally()), deque[Shown]()
    report = None if progress is None else lambda pair, call, calls: progress(pair, count, call, calls)
    new_pairs = interpolator.stream(kind_of(settings).parts(pieces, clip.shape, shown, done), settings, report)
    if is_new:
        logger.info("prompt: %s", job.settings.prompt)
        if store is not None:
            store.keep_prompt(job.settings.prompt)
    return _Begun(job, done, pieces, new_pairs if done < count else iter(()), shown)


def _with_prompt(interpolator: Pipeline, job: Job, clip: Clip, store: PairStore | None) -> tuple[Job, bool]:
    """Return `job` with its prompt, and whether the upsampler wrote it just now, rather than in an interrupted run."""
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
    """Return the final paths of what `_writers` yields, in the same order."""
    return [job.video] if job.frames_folder is None else [job.video, job.frames_folder.resolve()]


def _writers(job: Job, clip: Clip, store: PairStore) -> Iterator[VideoWriter | PngWriter]:
    """Yield the writer of the video and, if the frames are wanted, that of the frames; nothing is opened yet."""
    carried = None if clip.streams is None else CarriedStreams(clip.streams)
    encoding = job.encoding
    yield VideoWriter(
        job.video,
        clip.plan.rate,
        *clip.shape.inner,
        codec=encoding.codec,
        crf=encoding.crf,
        pixel_format=encoding.pixel_format,
        carried=carried,
    )
    if job.frames_folder is not None:
        yield PngWriter(job.frames_folder, overwrite=job.overwrite or store.claims(job.frames_folder))


def _all_pairs(interpolator: Pipeline, begun: _Begun, store: PairStore) -> Iterator[tuple[np.ndarray, Shown]]:
    """Yield the frames of every piece in order, and which are shown: those an interrupted run left, then new ones."""
    guardrails = interpolator.guardrails
    if guardrails is not None and begun.done and (checked := store.checked(begun.done - 1)):
        guardrails.go_on_counting(checked)
    for piece in islice(begun.pieces, begun.done):
        yield store.load(piece.index), piece.shown
    for pair in begun.new_pairs:
        store.save(pair.index, pair.frames, guardrails.facts() if guardrails else None)
        yield pair.frames, begun.shown.popleft()
