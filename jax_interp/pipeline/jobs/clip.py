"""The input of a job: opened once, by all processes alike."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jax_interp.errors import JaxInterpError
from jax_interp.media.pairs import num_pairs
from jax_interp.media.reader import open_frames
from jax_interp.media.source import FrameSource
from jax_interp.media.video.codecs import check_length
from jax_interp.pipeline.interpolator import Interpolator
from jax_interp.pipeline.jobs.agreements import agree_on_input
from jax_interp.pipeline.jobs.record import FileState, input_states
from jax_interp.pipeline.requests.request import Job


@dataclass(frozen=True)
class Clip:
    """A job's input, opened, and how many pairs it has."""

    source: FrameSource
    num_pairs: int


def find_clip(job: Job) -> Clip:
    """Open the input of `job`; raises `UsageError` or `MediaError` if it is not there or has too few frames."""
    try:
        source = _open_unchanged(job.inputs, input_states(job.inputs))
    except (OSError, RuntimeError, ValueError):  # a file that cannot be looked at: what is wrong is said here
        source = open_frames(job.inputs)
    asked = job.settings
    count = num_pairs(source.num_frames, asked.frame_stride, asked.frame_index_start, asked.num_frame_pairs)
    return Clip(source, count)


@lru_cache(maxsize=1024)
def _open_unchanged(inputs: tuple[Path, ...], states: tuple[FileState, ...]) -> FrameSource:
    """The input, opened once for as long as its files are in `states`: that takes a pass over a video's packets."""
    del states  # a part of the key
    return open_frames(inputs)


def open_clip(interpolator: Interpolator, job: Job) -> Clip:
    """Open the input of `job` and check that the networks can take it; nothing is loaded.

    Raises:
        UsageError, MediaError: it cannot be done; of several processes each raises the same.
        ProcessFailure: the processes do not find the same input.
    """
    clip = problem = None
    asked = job.settings
    try:
        clip = find_clip(job)
        interpolator.check_size(asked.height, asked.width, asked.num_video_frames)
        num_frames = clip.num_pairs * (asked.num_video_frames - 1) + 1
        check_length(job.video, num_frames, asked.height, asked.width)
    except (JaxInterpError, OSError) as error:
        problem = error
    agree_on_input(job, clip.num_pairs if clip else None, problem)
    if clip is None or problem is not None:
        raise problem or AssertionError
    return clip
