"""The options that say over how many devices a run is spread, and how."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jax_interp.errors import MediaError, UsageError

if TYPE_CHECKING:
    from jax_interp.pipeline.jobs.request import Job
    from jax_interp.runtime.mesh_shape import MeshShape

AUTO = "auto"


@dataclass(frozen=True)
class MeshFlags:
    """What the user asked for; None is `auto`."""

    shape: "MeshShape | None"
    num_gpus: int | None

    @classmethod
    def parse(cls, mesh: str, num_gpus: str) -> "MeshFlags":
        """Read the options' values.

        Raises:
            UsageError: one of them cannot be understood, or they contradict each other.
        """
        from jax_interp.runtime.mesh_shape import MeshShape

        if num_gpus != AUTO and not (num_gpus.isdecimal() and int(num_gpus) > 0):
            raise UsageError(f"--num-gpus {num_gpus}: expected auto or a number from 1 on")
        count = None if num_gpus == AUTO else int(num_gpus)
        shape = None if mesh == AUTO else MeshShape.parse(mesh)
        if shape is not None and count not in (None, shape.size):
            raise UsageError(
                f"--mesh {mesh} has {shape.size} devices and --num-gpus says {count}; {_would_work(count)}"
            )
        return cls(shape, count)

    def choose(self, jobs: "Sequence[Job]") -> "MeshShape":
        """The mesh for `jobs` on the devices that JAX has.

        Raises:
            UsageError: there are too few devices, or too few pairs for the asked-for mesh.
        """
        from jax_interp.runtime import processes
        from jax_interp.runtime.mesh_shape import MeshShape, fastest_shape

        available, branches = self._devices(), _branches(jobs)
        if self.shape is None:
            chosen = fastest_shape(available, _pair_counts(jobs) if available > 1 else [1], branches)
            return MeshShape.parse(processes.decide("the mesh", str(chosen)))
        if self.shape.data > 1 and self.shape.data > (most := max(_pair_counts(jobs), default=1) * branches):
            raise UsageError(
                f"--mesh {self.shape}: data={self.shape.data} for {most} evaluation(s) side by side (pairs times"
                f" guidance branches) leaves devices idle; {_would_work(self.shape.size, most)}"
            )
        return self.shape

    def _devices(self) -> int:
        """How many devices to use: those asked for, else all GPUs of all processes, else one a process."""
        import jax

        found = jax.device_count()
        if self.num_gpus is not None and self.num_gpus > found:
            raise UsageError(
                f"--num-gpus {self.num_gpus}: JAX sees {found} device(s) ({jax.default_backend()}); check"
                " CUDA_VISIBLE_DEVICES and `jax-interp doctor`, or ask for fewer"
            )
        if self.shape is not None and self.shape.size > found:
            raise UsageError(
                f"--mesh {self.shape} needs {self.shape.size} devices, but {found} are there; {_would_work(found)}"
            )
        chosen = self.num_gpus or (self.shape.size if self.shape else None)
        return chosen or (found if jax.default_backend() == "gpu" else jax.process_count())


def _pair_counts(jobs: "Sequence[Job]") -> list[int]:
    """Pairs of every clip that can be opened; the others are reported when their turn comes."""
    from jax_interp.pipeline.jobs.job import find_clip

    counts = []
    for job in jobs:
        try:
            counts.append(find_clip(job).num_pairs)
        except (MediaError, UsageError, OSError):
            continue
    return counts or [1]


def _branches(jobs: "Sequence[Job]") -> int:
    from jax_interp.diffusion.branches import branches

    return max(len(branches(job.settings.sampling.guidance)) for job in jobs)


def _would_work(num_devices: int | None, rows: Any = None) -> str:
    from jax_interp.runtime.mesh_shape import shapes

    fit = [str(shape) for shape in shapes(num_devices or 1) if rows is None or shape.data <= rows]
    return f"these would work: {'; '.join(fit)}"
