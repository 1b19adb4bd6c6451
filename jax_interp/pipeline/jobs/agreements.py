"""What the processes of a run agree on before its first clip: who is there, on what machines, and what is to be done.

In a single process all of this costs nothing. What the processes agree on within a clip is in `job.py`.
"""

from dataclasses import asdict
from pathlib import Path

import jax

from jax_interp.errors import Blocked
from jax_interp.files.overlap import Input
from jax_interp.pipeline.interpolator import Interpolator
from jax_interp.pipeline.jobs.outputs import check_outputs, network_files, refuse_held_results
from jax_interp.pipeline.jobs.record import effective_settings, networks
from jax_interp.pipeline.requests.request import GenerateRequest
from jax_interp.pipeline.requests.settings import ProcessSettings
from jax_interp.runtime import processes
from jax_interp.runtime.mesh_shape import MeshShape


def join_processes(asked: ProcessSettings) -> bool:
    """Join the other processes, if there are to be any; before JAX touches a device. Whether this is the first one.

    Raises:
        UsageError, ProcessFailure: as `processes.start`.
    """
    if asked.several:
        processes.start(asked.member, stale=asked.timeout)
    return processes.is_first()


def check_results(request: GenerateRequest) -> None:
    """Raise before anything is loaded if what process 0 is to write cannot be written, or would harm what is read."""
    if not processes.is_first():
        return
    files: dict[str, Path | None] = {
        "--batch-input-path": request.batch,
        "--text-embeddings": request.networks.text_embeddings,
    }
    read = [Input(path, flag) for flag, path in files.items() if path is not None]
    check_outputs(request.jobs, [*read, *network_files(request.networks.checkpoint_dir)])
    if not request.is_batch:  # the clips of a batch are held one after the other, each when its turn comes
        refuse_held_results(request.jobs[0])


def agree_on_machines() -> None:
    """Several processes have to be of the same software, and to have the same devices: they run the same programs."""
    devices = {"kind": jax.local_devices()[0].device_kind, "number": jax.local_device_count()}
    processes.agree("the machines", {"version": processes.software(), "devices": devices})


def agreed_mesh(mesh: MeshShape) -> MeshShape:
    """The mesh that process 0 chose."""
    return MeshShape.parse(processes.decide("the mesh", str(mesh)))


def least_memory(own: int | None) -> int | None:
    """The bytes of GPU memory that every process has, of the `own` ones of each; None if one of them has no GPU."""
    everyones = processes.everyone("GPU memory", own)
    return None if None in everyones else min(everyones)


def agree_on_work(interpolator: Interpolator, request: GenerateRequest) -> None:
    """Several processes have to have the same networks and the same clips to do."""
    clips = {
        job.video.name: effective_settings(interpolator, job.settings)
        | {"upsampler": job.upsampler and asdict(job.upsampler), "rate": str(job.exact_rate)}
        for job in request.jobs
    }
    stride = interpolator.guardrails.frame_stride if interpolator.guardrails else None
    processes.agree("the work", {"network": networks(interpolator), "clip": clips, "guardrail_frame_stride": stride})


def ends_all(error: Exception) -> bool:
    """Whether the others wait for this process where `error` was raised in the middle of a clip.

    They can then only be ended. What is blocked they all leave, as they do a clip whose results cannot be held.
    """
    everywhere = isinstance(error, Blocked) or getattr(error, "in_all_processes", False)
    return processes.count() > 1 and not everywhere
