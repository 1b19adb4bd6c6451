"""The door of a job: its input is opened, and checked against the networks, by all processes alike."""

from jax_interp.errors import JaxInterpError
from jax_interp.pipeline.base import Pipeline
from jax_interp.pipeline.jobs.agreements import agree_on_input
from jax_interp.pipeline.requests.inputs import Clip, find_clip
from jax_interp.pipeline.requests.request import Job


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
