"""One clip from input files to output files: decoded once, interpolated and written pair by pair, resumable."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any

import numpy as np

from jax_interp.media.output import reported
from jax_interp.media.pairs import iterate_pairs, join_pairs, num_pairs
from jax_interp.media.reader import open_frames
from jax_interp.media.writer import FrameWriter, PngWriter, TeeWriter, VideoWriter
from jax_interp.pipeline.interpolator import Interpolator
from jax_interp.pipeline.pair_store import PairStore
from jax_interp.pipeline.record import fingerprint, run_record
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.pipeline.whole_file import write_whole

logger = logging.getLogger("jax_interp")

JobProgress = Callable[[int, int, int, int], None]
"""Called with (pair, pairs, network calls done within the pair's batch, network calls in all)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A clip to interpolate and where its result goes."""

    inputs: tuple[Path, ...]
    """One video, one folder of pictures, or several pictures."""
    video: Path
    settings: InterpolationSettings
    frames_folder: Path | None = None
    """Where the video's frames also go, as PNG."""
    overwrite: bool = False
    """Whether `frames_folder` may replace an existing folder."""

    @property
    def record(self) -> Path:
        return self.video.with_suffix(".json")

    @property
    def prompt_file(self) -> Path:
        return self.video.with_suffix(".txt")


def run_job(interpolator: Interpolator, job: Job, progress: JobProgress | None = None) -> dict[str, Any]:
    """Write the video, the prompt as text, the record and, if asked for, the frames; returns the record.

    Stops with nothing half-written under the final names. What is finished of an interrupted run is kept beside the
    video and used when the same job runs again.

    Raises:
        UsageError, MediaError, CheckpointError: before anything is loaded wherever that is possible.
    """
    started = time.perf_counter()
    interpolator.timings.clear()
    settings = job.settings
    source = open_frames(job.inputs)
    count = num_pairs(source.num_frames, settings.frame_stride, settings.frame_index_start, settings.num_frame_pairs)
    interpolator.check_size(settings.height, settings.width, settings.num_video_frames)
    with reported(job.video):
        job.video.parent.mkdir(parents=True, exist_ok=True)
    if job.video.exists():
        logger.info("%s is there already and will be replaced", job.video)
    identity = fingerprint(interpolator, settings, job.inputs)
    store = PairStore(job.video, identity)
    with TeeWriter(*_writers(job, store)) as writer:
        for frames in join_pairs(_finished_pairs(interpolator, job, iter(source), count, store, progress)):
            writer.write(frames)
        if job.frames_folder is not None:
            store.claim(job.frames_folder)
    record = run_record(
        interpolator,
        settings,
        fingerprint=identity,
        input={"files": [str(path) for path in job.inputs], **source.description},
        output={"video": str(job.video), "frames_folder": str(job.frames_folder) if job.frames_folder else None},
        pairs=count,
        frames=writer.num_frames,
        total_seconds=round(time.perf_counter() - started, 3),
    )
    with reported(job.record):
        write_whole(job.prompt_file, f"{settings.prompt}\n".encode())
        write_whole(job.record, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
    store.remove()
    return record


def _writers(job: Job, store: PairStore) -> Iterator[FrameWriter]:
    """The video's writer and, if the frames are wanted, theirs; nothing is opened yet."""
    settings = job.settings
    yield VideoWriter(job.video, settings.sampling.fps, settings.height, settings.width)
    if job.frames_folder is not None:
        yield PngWriter(job.frames_folder, overwrite=job.overwrite or store.claims(job.frames_folder))


def _finished_pairs(
    interpolator: Interpolator,
    job: Job,
    frames: Iterator[np.ndarray],
    count: int,
    store: PairStore,
    progress: JobProgress | None,
) -> Iterator[np.ndarray]:
    """Frames of every pair in order: first those that an interrupted run left, then new ones."""
    settings = job.settings
    done = min(store.finished(), count)
    if done:
        logger.info("going on after pair %d of %d", done, count)
    for index in range(done):
        yield store.load(index)
    if done == count:
        return
    pairs = iterate_pairs(frames, settings.frame_stride, settings.frame_index_start, count)
    missing = dropwhile(lambda pair: pair[0] < done, pairs)
    report = None if progress is None else lambda pair, call, calls: progress(pair, count, call, calls)
    for pair in interpolator.stream(missing, settings, report):
        store.save(pair.index, pair.frames)
        yield pair.frames


def is_finished(interpolator: Interpolator, job: Job) -> bool:
    """Whether this very job has run to its end before: same settings, input and networks, and its results are there."""
    try:
        record = json.loads(job.record.read_text())
    except (OSError, ValueError):
        return False
    made = job.video.exists() and (job.frames_folder is None or job.frames_folder.exists())
    return made and record.get("fingerprint") == fingerprint(interpolator, job.settings, job.inputs)
