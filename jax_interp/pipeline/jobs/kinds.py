"""What is particular to each pipeline in making the files of a clip; everything else is the same for both."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jax_interp.media.last_frames import check_given
from jax_interp.media.shape import Shape, Size
from jax_interp.media.source import FrameSource
from jax_interp.media.timeline.continuation import Continuation
from jax_interp.media.timeline.pieces import Piece
from jax_interp.media.timeline.plan import ClipPlan
from jax_interp.pipeline.base import Pipeline
from jax_interp.pipeline.interpolator import Interpolator
from jax_interp.pipeline.planned_clip import Shown, as_clips, as_pairs, plan_for
from jax_interp.pipeline.requests.request import Job
from jax_interp.pipeline.settings import InterpolationSettings, RunSettings, Video2WorldSettings
from jax_interp.pipeline.video2world import Video2World


@dataclass(frozen=True)
class Planned:
    """A job with what follows from its input."""

    job: Job
    """The job, settled: whatever its input decides is in its settings, timeline and aspect."""
    plan: ClipPlan | Continuation
    shape: Shape


@dataclass(frozen=True)
class PipelineKind:
    """A pipeline, and how it takes a clip: in parts, each of which `Pipeline.stream` turns into frames."""

    pipeline: type[Pipeline]
    plan: Callable[[FrameSource, Job, Any], Planned]
    """A function from the input, the job and its settings to what becomes of it; raises `UsageError` if they do not
    suit each other."""
    parts: Callable[[Iterator[Piece[Any]], Shape, deque[Shown], int], Iterator[tuple[Any, ...]]]
    """A function from the plan's pieces to the parts from a number on, each behind its number; it notes what the output
    shows of each (`planned_clip.as_pairs`)."""


def kind_of(settings: RunSettings) -> PipelineKind:
    """Return the facts about the pipeline that runs with `settings`."""
    return _KINDS[type(settings)]


def _plan_pairs(source: FrameSource, job: Job, settings: InterpolationSettings) -> Planned:
    planned = plan_for(source, settings, job.timeline, job.aspect, job.exact_rate)
    job = replace(job, timeline=planned.plan.timeline, aspect=planned.aspect, settings=planned.settings)
    return Planned(job, planned.plan, planned.shape)


def _plan_continuation(source: FrameSource, job: Job, settings: Video2WorldSettings) -> Planned:
    check_given(source.num_frames, source.height, source.width, settings.num_input_frames)
    size = Size(settings.height, settings.width)
    plan = Continuation(source, job.exact_rate, settings.num_input_frames, settings.num_video_frames)
    return Planned(job, plan, Shape(size, 0, 0, size, stretched=True))


_KINDS: Mapping[type, PipelineKind] = {
    InterpolationSettings: PipelineKind(Interpolator, _plan_pairs, as_pairs),
    Video2WorldSettings: PipelineKind(Video2World, _plan_continuation, as_clips),
}
