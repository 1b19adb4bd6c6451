"""The options for the devices and processes over which a run is spread; they are checked before anything is loaded."""

from dataclasses import dataclass
from typing import Annotated

import typer

from jax_interp.errors import UsageError
from jax_interp.pipeline.requests.settings import DeviceSettings, ProcessSettings
from jax_interp.runtime.member import Member
from jax_interp.runtime.mesh_shape import MeshShape

AUTO = "auto"


@dataclass(frozen=True)
class DeviceOptions:
    """The options for GPUs and processes."""

    num_gpus: Annotated[str, typer.Option(help="GPUs to use; auto: all that are visible.")] = AUTO
    mesh: Annotated[
        str,
        typer.Option(
            help="How to use them, as data=2,sequence=2: data runs pairs and guidance branches side by side, sequence"
            " splits the tokens of each, tensor its heads and weights. auto: the fastest for the pairs there are."
        ),
    ] = AUTO
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed",
            help="This is one of several processes that Slurm, Open MPI or Kubernetes started for one run.",
        ),
    ] = False
    coordinator: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of process 0, where nothing of these says who is who; the same in all processes."),
    ] = None
    process_id: Annotated[int | None, typer.Option(help="Number of this process.")] = None
    num_processes: Annotated[int | None, typer.Option(help="How many there are.")] = None
    process_timeout: Annotated[
        float, typer.Option(help="Seconds without a sign of life until a process counts as dead.")
    ] = 60

    def devices(self) -> DeviceSettings:
        """Return the settings of the devices; see `parse_devices` for what it raises."""
        return parse_devices(self.mesh, self.num_gpus)

    def processes(self) -> ProcessSettings:
        """Return the settings of the processes; see `parse_processes` for what it raises."""
        return parse_processes(
            self.distributed, self.coordinator, self.process_id, self.num_processes, self.process_timeout
        )


def parse_devices(mesh: str, num_gpus: str) -> DeviceSettings:
    """Convert the values of the options into settings.

    Raises:
        UsageError: a value cannot be understood, or the values contradict each other.
    """
    if num_gpus != AUTO and not (num_gpus.isdecimal() and int(num_gpus) > 0):
        raise UsageError(f"--num-gpus {num_gpus}: expected auto or a number from 1 on")
    return DeviceSettings(
        mesh=None if mesh == AUTO else MeshShape.parse(mesh), num_gpus=None if num_gpus == AUTO else int(num_gpus)
    )


def parse_processes(
    distributed: bool,
    coordinator: str | None,
    process_id: int | None,
    num_processes: int | None,
    timeout: float = 60,
) -> ProcessSettings:
    """Convert the values of the options into settings.

    Raises:
        UsageError: a value is missing or impossible.
    """
    alone = ProcessSettings(several=distributed, timeout=timeout)
    given = {"--coordinator": coordinator, "--process-id": process_id, "--num-processes": num_processes}
    missing = [flag for flag, value in given.items() if value is None]
    if coordinator is not None and process_id is not None and num_processes is not None:
        member = Member(coordinator, process_id, num_processes)
        return ProcessSettings(several=True, member=member, timeout=timeout)
    if len(missing) < len(given):
        raise UsageError(
            f"{', '.join(flag for flag in given if flag not in missing)} without {' and '.join(missing)}: give all"
            " three, or only --distributed where Slurm, Open MPI or Kubernetes start the processes"
        )
    return alone
