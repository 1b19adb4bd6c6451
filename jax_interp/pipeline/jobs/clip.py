"""The door of a job: its input is opened, planned, and checked against the networks, by all processes alike."""

import logging
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from jax_interp.errors import JaxInterpError, UsageError
from jax_interp.media.shape import Shape, Size
from jax_interp.media.source import FrameSource
from jax_interp.media.timeline.continuation import Continuation
from jax_interp.media.timeline.pieces import Tally
from jax_interp.media.timeline.plan import ClipPlan
from jax_interp.media.video.codecs import check_length
from jax_interp.media.video.streams.carrying import StreamPlan, plan_streams
from jax_interp.pipeline.base import Pipeline
from jax_interp.pipeline.jobs.agreements import agree_on_input, is_first
from jax_interp.pipeline.jobs.kinds import Planned, kind_of
from jax_interp.pipeline.requests.inputs import open_input
from jax_interp.pipeline.requests.request import Job

logger = logging.getLogger("jax_interp")

_NOTICEABLE = Fraction(1, 4)
"""The error in time from which on a warning is given, in output frames."""


@dataclass(frozen=True)
class Clip:
    """A job's input, opened, and what becomes of it."""

    plan: ClipPlan | Continuation
    shape: Shape
    streams: StreamPlan | None = None
    """What is carried over of the input beside its pictures."""

    @property
    def source(self) -> FrameSource:
        return self.plan.source

    @cached_property
    def foreseen(self) -> Tally:
        """What follows without looking at a frame."""
        return self.plan.foreseen()

    @cached_property
    def most_pieces(self) -> int:
        """The number of pieces, or, where frames have to be looked at to know, one that it does not exceed."""
        plan = self.plan
        return plan.num_nodes if isinstance(plan, ClipPlan) and not plan.is_foreseen else self.foreseen.num_pieces


def settled(job: Job) -> Job:
    """Return `job` with all that follows from its input: the network's size, the cuts that are given, the keyframes.

    Raises:
        UsageError, MediaError: the input is not there, or something does not suit it.
    """
    return _planned(job).job


def find_clip(job: Job) -> Clip:
    """Open the input of `job`; raise `UsageError` or `MediaError` if it is not there or does not suit the job."""
    planned = _planned(job)
    return Clip(planned.plan, planned.shape)


def _planned(job: Job) -> Planned:
    return kind_of(job.settings).plan(open_input(job), job, job.settings)


def open_clip(interpolator: Pipeline, job: Job) -> Clip:
    """Open the input of `job` and check that the networks can take it; nothing is loaded.

    Raises:
        UsageError, MediaError: it cannot be done; of several processes each raises the same.
        ProcessFailure: the processes do not find the same input.
    """
    clip = problem = None
    try:
        planned = _planned(job)
        clip = Clip(planned.plan, planned.shape, _streams(job, planned.plan))
        _check_size(interpolator, job, planned)
        check_length(job.video, clip.plan.num_frames, *clip.shape.inner)
    except (JaxInterpError, OSError) as error:
        problem = error
    agree_on_input(job, clip.plan.num_pairs if clip else None, problem)
    if clip is None or problem is not None:
        raise problem or AssertionError
    if is_first() and isinstance(clip.plan, ClipPlan):
        _announce(job, clip, clip.plan)
    return clip


def _check_size(interpolator: Pipeline, job: Job, planned: Planned) -> None:
    """Raise `UsageError` if the networks cannot take the size; says whether it was chosen for the input's shape."""
    try:
        interpolator.check_settings(planned.job.settings)
    except UsageError as error:
        network, source = planned.shape.network, planned.plan.source
        is_asked = job.aspect is not None and job.aspect.size is not None
        if is_asked or network == Size(job.settings.height, job.settings.width):
            raise
        raise UsageError(
            f"{error}; {network} was chosen for the shape of the input, {Size(source.height, source.width)}:"
            " --aspect WIDTHxHEIGHT chooses another size"
        ) from error


def _streams(job: Job, plan: ClipPlan | Continuation) -> StreamPlan | None:
    """Return what is carried over beside the pictures; None where the input has nothing else, or nothing is wanted."""
    if not isinstance(plan, ClipPlan) or not job.carries_rest:
        return None
    if plan.source.description.get("kind") != "video":
        if job.audio in ("stretch", "encode"):
            raise UsageError(
                f"--audio {job.audio}: {', '.join(map(str, job.inputs))} has no sound; leave the option out"
            )
        return None
    span = plan.span[0], math.inf if plan.reaches_end else plan.span[1]
    return plan_streams(job.inputs[0], job.carried_audio, span, plan.slowed, job.video.suffix.lower())


def _announce(job: Job, clip: Clip, plan: ClipPlan) -> None:
    """Say what the output will be."""
    shape = clip.shape
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
    """Say which frames are left out or dropped, and where the steps between two frames are too coarse."""
    if plan.used.num_pairs is None and plan.num_left_out:
        logger.info(
            "the last %d frame(s) of the input fill no pair of %d steps and are left out",
            plan.num_left_out,
            plan.used.stride,
        )
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
