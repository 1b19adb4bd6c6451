"""The choice of the devices over which a run's clips are spread."""

from collections.abc import Sequence

import jax

from jax_interp.diffusion.branches import branches
from jax_interp.errors import MediaError, UsageError
from jax_interp.pipeline.jobs.agreements import agreed_mesh
from jax_interp.pipeline.requests.inputs import count_parts
from jax_interp.pipeline.requests.request import Job
from jax_interp.pipeline.requests.settings import DeviceSettings, which_would_work
from jax_interp.runtime.mesh_shape import MeshShape, fastest_shape


def choose_mesh(asked: DeviceSettings, jobs: Sequence[Job]) -> MeshShape:
    """Return the mesh for `jobs` on the devices that JAX has: the one that was asked for, else the fastest.

    Raises:
        UsageError: there are too few devices, or too few pairs for the asked-for mesh.
    """
    available, num_branches = _devices(asked), _branches(jobs)
    if asked.mesh is None:
        return agreed_mesh(fastest_shape(available, _pair_counts(jobs) if available > 1 else [1], num_branches))
    if asked.mesh.data > 1 and asked.mesh.data > (most := max(_pair_counts(jobs), default=1) * num_branches):
        raise UsageError(
            f"--mesh {asked.mesh}: data={asked.mesh.data} for {most} evaluation(s) side by side (pairs times"
            f" guidance branches) leaves devices idle; {which_would_work(asked.mesh.size, most)}"
        )
    return asked.mesh


def _devices(asked: DeviceSettings) -> int:
    """Return how many devices to use: as many as were asked for, else all GPUs of all processes, else one a process."""
    found = jax.device_count()
    if asked.num_gpus is not None and asked.num_gpus > found:
        raise UsageError(
            f"--num-gpus {asked.num_gpus}: JAX sees {found} device(s) ({jax.default_backend()}); check"
            " CUDA_VISIBLE_DEVICES and `jax-interp doctor`, or ask for fewer"
        )
    if asked.mesh is not None and asked.mesh.size > found:
        raise UsageError(
            f"--mesh {asked.mesh} needs {asked.mesh.size} devices, but {found} are there; {which_would_work(found)}"
        )
    chosen = asked.num_gpus or (asked.mesh.size if asked.mesh else None)
    return chosen or (found if jax.default_backend() == "gpu" else jax.process_count())


def _pair_counts(jobs: Sequence[Job]) -> list[int]:
    """Return the number of pairs of every clip that can be opened; the others are reported when their turn comes."""
    counts = []
    for job in jobs:
        try:
            counts.append(count_parts(job))
        except (MediaError, UsageError, OSError):
            continue
    return counts or [1]


def _branches(jobs: Sequence[Job]) -> int:
    return max(len(branches(job.settings.sampling.guidance)) for job in jobs)
