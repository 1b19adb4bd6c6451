"""The input of a job: opened once, by all processes alike."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jax_interp.errors import JaxInterpError
from jax_interp.media.pictures.pixels import Background
from jax_interp.media.reader import open_frames
from jax_interp.media.source import FrameSource
from jax_interp.pipeline.base import Pipeline
from jax_interp.pipeline.jobs.agreements import agree_on_input
from jax_interp.pipeline.jobs.kinds import kind_of
from jax_interp.pipeline.jobs.record import FileState, input_states
from jax_interp.pipeline.requests.request import Job


@dataclass(frozen=True)
class Clip:
    """A job's input, opened, and how many pairs it has; a clip that is continued has one part, which counts as one."""

    source: FrameSource
    num_pairs: int


def find_clip(job: Job) -> Clip:
    """Open the input of `job`; raises `UsageError` or `MediaError` if it is not there or has too few frames."""
    kind = kind_of(job.settings)
    try:
        source = _open_unchanged(job.inputs, input_states(job.inputs), kind.fewest_frames, kind.background)
    except (OSError, RuntimeError, ValueError):  # a file that cannot be looked at: what is wrong is said here
        source = open_frames(job.inputs, at_least=kind.fewest_frames, background=kind.background)
    return Clip(source, kind.count(source, job.settings))


@lru_cache(maxsize=1024)
def _open_unchanged(
    inputs: tuple[Path, ...], states: tuple[FileState, ...], at_least: int, background: Background
) -> FrameSource:
    """The input, opened once for as long as its files are in `states`: that takes a pass over a video's packets."""
    del states  # a part of the key
    return open_frames(inputs, at_least=at_least, background=background)


def open_clip(interpolator: Pipeline, job: Job) -> Clip:
    """Open the input of `job` and check that the networks can take it; nothing is loaded.

    Raises:
        UsageError, MediaError: it cannot be done; of several processes each raises the same.
        ProcessFailure: the processes do not find the same input.
    """
    clip = problem = None
    try:
        clip = find_clip(job)
        interpolator.check_settings(job.settings)
    except (JaxInterpError, OSError) as error:
        problem = error
    agree_on_input(job, clip.num_pairs if clip else None, problem)
    if clip is None or problem is not None:
        raise problem or AssertionError
    return clip
