"""The input of a job: opened once, by all processes alike."""

import logging
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path

from jax_interp.errors import JaxInterpError, UsageError
from jax_interp.media.read_settings import ReadSettings
from jax_interp.media.reader import open_frames
from jax_interp.media.shape import Shape
from jax_interp.media.source import FrameSource
from jax_interp.media.timeline.pieces import Tally
from jax_interp.media.timeline.plan import ClipPlan
from jax_interp.media.video.codecs import check_length
from jax_interp.media.video.streams import StreamPlan, plan_streams
from jax_interp.pipeline.interpolator import Interpolator
from jax_interp.pipeline.jobs.agreements import agree_on_input, is_first
from jax_interp.pipeline.jobs.record import FileState, input_states
from jax_interp.pipeline.planned_clip import PlannedClip, plan_for
from jax_interp.pipeline.requests.request import Job

logger = logging.getLogger("jax_interp")

_NOTICEABLE = Fraction(1, 4)
"""The error in time from which on a warning is given, in output frames."""


@dataclass(frozen=True)
class Clip:
    """A job's input, opened, and what becomes of it."""

    plan: ClipPlan
    shape: Shape
    streams: StreamPlan | None = None
    """What is carried over of the input beside its pictures."""

    @property
    def source(self) -> FrameSource:
        return self.plan.source

    @property
    def num_pairs(self) -> int:
        """The pairs that neighbouring frames make, of which not all may be needed."""
        return self.plan.num_nodes - 1

    @cached_property
    def foreseen(self) -> Tally:
        """What follows without looking at a frame."""
        return self.plan.foreseen()

    @cached_property
    def most_pieces(self) -> int:
        """The number of pieces, or, where frames have to be looked at to know, one that it does not exceed."""
        return self.foreseen.num_pieces if self.plan.is_foreseen else self.plan.num_nodes


def settled(job: Job) -> Job:
    """Return `job` with all that follows from its input: the network's size, the cuts that are given, the keyframes.

    Raises:
        UsageError, MediaError: the input is not there, or something does not suit it.
    """
    planned = _planned(job)
    return replace(job, timeline=planned.plan.timeline, aspect=planned.aspect, settings=planned.settings)


def find_clip(job: Job) -> Clip:
    """Open the input of `job`; raises `UsageError` or `MediaError` if it is not there or has too few frames."""
    planned = _planned(job)
    return Clip(planned.plan, planned.shape)


def _planned(job: Job) -> PlannedClip:
    return plan_for(_open(job), job.settings, job.timeline, job.aspect, job.exact_rate)


def _open(job: Job) -> FrameSource:
    try:
        return _open_unchanged(job.inputs, job.reading, input_states(job.inputs))
    except (OSError, RuntimeError, ValueError):  # a file that cannot be looked at: what is wrong is said here
        return open_frames(job.inputs, job.reading)


@lru_cache(maxsize=1024)
def _open_unchanged(inputs: tuple[Path, ...], reading: ReadSettings, states: tuple[FileState, ...]) -> FrameSource:
    """The input, opened once for as long as its files are in `states`: that takes a pass over a video's packets."""
    del states  # a part of the key
    return open_frames(inputs, reading)


def open_clip(interpolator: Interpolator, job: Job) -> Clip:
    """Open the input of `job` and check that the networks can take it; nothing is loaded.

    Raises:
        UsageError, MediaError: it cannot be done; of several processes each raises the same.
        ProcessFailure: the processes do not find the same input.
    """
    clip = problem = None
    try:
        asked = settled(job).settings
        clip = find_clip(job)
        clip = replace(clip, streams=_streams(job, clip.plan))
        interpolator.check_size(asked.height, asked.width, asked.num_video_frames)
        check_length(job.video, clip.plan.num_frames, *clip.shape.inner)
    except (JaxInterpError, OSError) as error:
        problem = error
    agree_on_input(job, clip.num_pairs if clip else None, problem)
    if clip is None or problem is not None:
        raise problem or AssertionError
    if is_first():
        _announce(job, clip)
    return clip


def _streams(job: Job, plan: ClipPlan) -> StreamPlan | None:
    """What is carried over of the input beside its pictures; None where it has nothing else, or nothing is wanted."""
    if not job.carries_rest:
        return None
    if plan.source.description.get("kind") != "video":
        if job.audio in ("stretch", "encode"):
            raise UsageError(
                f"--audio {job.audio}: {', '.join(map(str, job.inputs))} has no sound; leave the option out"
            )
        return None
    span = plan.span[0], math.inf if plan.reaches_end else plan.span[1]
    return plan_streams(job.inputs[0], job.carried_audio, span, plan.slowed, job.video.suffix.lower())


def _announce(job: Job, clip: Clip) -> None:
    """Say what the output will be."""
    plan, shape = clip.plan, clip.shape
    padded = "" if not shape.is_cropped else f" (the network works at {shape.network})"
    pairs = f"{clip.foreseen.num_pairs} pair(s) to interpolate"
    logger.info(
        "%s: %s%s, %s frames a second, %d frames (%.2f s) from %d; %s%s",
        job.video.name,
        shape.inner,
        padded,
        _shown(plan.rate),
        plan.num_frames,
        plan.num_frames / plan.rate,
        plan.num_nodes,
        "" if plan.is_foreseen else "at most ",
        pairs,
    )
    _warn(plan, clip.foreseen)


def _warn(plan: ClipPlan, foreseen: Tally) -> None:
    """Say where frames are dropped, and where the steps between two frames are too coarse."""
    fastest = plan.num_nodes / (plan.span[1] - plan.span[0])
    if plan.timeline.follows_source and plan.rate * plan.slowed < fastest:
        logger.warning(
            "--rate %s is below the input's %s frames a second: frames of the input are dropped",
            _shown(plan.rate),
            _shown(fastest),
        )
    warn_of_errors(plan, foreseen)


def warn_of_errors(plan: ClipPlan, tally: Tally) -> None:
    """Say it if output frames are noticeably off their time."""
    if tally.largest_error > _NOTICEABLE:
        logger.warning(
            "a pair has %d steps, so output frames are up to %.2f of a frame (%.1f ms) off their time; a lower rate or"
            " less slow motion would be nearer",
            plan.steps,
            tally.largest_error,
            1000 * tally.largest_error / plan.rate,
        )


def _shown(rate: Fraction) -> str:
    return f"{float(rate):.5g}"
