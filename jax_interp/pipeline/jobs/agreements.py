"""What the processes of a run agree on: who is there, what is to be done, who writes it, and where each clip begins.

This is all that a run says between its processes, in the order in which it says it; only what they decide while a clip
is made is elsewhere, in `pipeline/across_processes.py`. Every process makes every call, in the same order: one that
leaves a call out lets the others wait forever. In a single process all of this costs nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

import jax

from jax_interp.errors import Blocked, JaxInterpError
from jax_interp.pipeline.base import Pipeline
from jax_interp.pipeline.jobs.outputs import check_outputs, held_results
from jax_interp.pipeline.jobs.record import effective_settings, networks
from jax_interp.pipeline.requests.request import GenerateRequest, Job
from jax_interp.pipeline.requests.settings import ProcessSettings
from jax_interp.runtime import processes
from jax_interp.runtime.mesh_shape import MeshShape


def join_processes(asked: ProcessSettings) -> bool:
    """Join the other processes, if there are to be any, and tell whether this is the first one.

    Call this before JAX touches a device.

    Raises:
        UsageError, ProcessFailure: as `processes.start`.
    """
    if asked.several:
        processes.start(asked.member, stale=asked.timeout)
    return is_first()


def is_first() -> bool:
    """Tell whether this process is the first one, which writes, and which looks at what was written before."""
    return processes.is_first()


def shared_fate() -> AbstractContextManager[None]:
    """Return a context in which an error of one process ends all of them; `ends_all` says of which it does not."""
    return processes.shared_fate()


def ends_all(error: Exception) -> bool:
    """Tell whether `error`, raised in the middle of a clip, has to end all processes, as the others wait for this one.

    A clip that is blocked, or whose results cannot be held, is left by all of them alike: that ends none.
    """
    everywhere = isinstance(error, Blocked) or getattr(error, "in_all_processes", False)
    return processes.count() > 1 and not everywhere


def agree_on_machines() -> None:
    """Check that all processes have the same software and the same devices, since they run the same programs.

    Raises:
        ProcessFailure: they have not.
    """
    devices = {"kind": jax.local_devices()[0].device_kind, "number": jax.local_device_count()}
    processes.agree("the machines", {"version": processes.software(), "devices": devices})


def agreed_mesh(mesh: MeshShape) -> MeshShape:
    """Return the mesh that the first process chose; `mesh` is this process's own choice."""
    return MeshShape.parse(processes.decide("the mesh", str(mesh)))


def agree_on_work(interpolator: Pipeline, request: GenerateRequest) -> None:
    """Check that all processes have the same networks and the same clips to make.

    Raises:
        ProcessFailure: they have not.
    """
    clips = {
        job.video.name: effective_settings(interpolator, job.settings)
        | {"upsampler": job.upsampler and asdict(job.upsampler), "rate": str(job.exact_rate), "job": job.own_facts}
        for job in request.jobs
    }
    stride = interpolator.guardrails.frame_stride if interpolator.guardrails else None
    processes.agree("the work", {"network": networks(interpolator), "clip": clips, "guardrail_frame_stride": stride})


def least_memory(own: int | None) -> int | None:
    """Return the smallest `own` of all processes, their bytes of GPU memory; None if one of them has no GPU."""
    everyones = processes.everyone("GPU memory", own)
    return None if None in everyones else min(everyones)


def agreed_to_be_there(job: Job, look: Callable[[], bool]) -> bool:
    """Tell all processes whether the results of `job` are there; only the first one calls `look`, which finds out."""
    return _of_the_first(f"whether {job.video.name} is there", is_first() and look())


def agree_on_input(job: Job, num_pairs: int | None, problem: Exception | None) -> None:
    """Check that all processes find the same input with `num_pairs` pairs, or the same `problem` with it.

    Raises:
        ProcessFailure: they do not.
    """
    found = {"pairs": num_pairs, "problem": str(problem) if problem else None}
    processes.agree(f"the input of {job.video.name}", found, timeout=_AS_LONG_AS_ALL_LIVE)


@contextmanager
def only_writer(job: Job) -> Iterator[bool]:
    """Hold the lock on the results of `job` in the first process; yield whether a run was killed that had held it.

    Raises:
        UsageError, MediaError: they cannot be held, or not be replaced; in all processes the same.
    """
    with ExitStack() as stack:
        was_killed, problem = False, None
        if is_first():
            try:
                was_killed = stack.enter_context(held_results(job))
                check_outputs([job])
            except (JaxInterpError, OSError) as error:
                problem = error
        said = None if problem is None else [str(problem), getattr(problem, "exit_code", JaxInterpError.exit_code)]
        was_killed, said = _of_the_first(f"who writes {job.video.name}", [was_killed, said])
        if said is not None:
            error = JaxInterpError(said[0])
            error.exit_code, error.in_all_processes = said[1], True
            raise error if problem is None or processes.count() > 1 else problem
        yield was_killed


def agreed_prompt(job: Job, kept: str | None) -> str | None:
    """Return the prompt that an interrupted run wrote for `job`, if the first process has `kept` one."""
    return _of_the_first(f"the prompt of {job.video.name}", kept)


def agreed_start(job: Job, num_finished: int | None) -> int:
    """Return how many pairs of `job` are finished: `num_finished` of the first process, which is None in the others."""
    return _of_the_first(f"finished pairs of {job.video.name}", num_finished)


_AS_LONG_AS_ALL_LIVE = None
"""No limit to how long the others wait: the first process may still be writing the clip before."""


def _of_the_first(what: str, value: Any) -> Any:
    return processes.decide(what, value, timeout=_AS_LONG_AS_ALL_LIVE)
