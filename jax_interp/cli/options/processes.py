"""The options that make one run of several processes: checked before anything is loaded."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jax_interp.errors import UsageError

if TYPE_CHECKING:
    from jax_interp.runtime.member import Member


SHORTEST_TIMEOUT = 4
"""A busy process is silent for a second now and then."""


@dataclass(frozen=True)
class ProcessFlags:
    """Which of several processes the user says this is."""

    several: bool
    """Whether there are several at all."""
    member: "Member | None"
    """As given; None: whatever started the processes says."""
    timeout: float
    """Seconds without a sign of life after which another process counts as dead."""

    @classmethod
    def parse(
        cls,
        distributed: bool,
        coordinator: str | None,
        process_id: int | None,
        num_processes: int | None,
        timeout: float = 60,
    ) -> "ProcessFlags":
        """Read the options' values.

        Raises:
            UsageError: some are missing or cannot be right.
        """
        from jax_interp.runtime.member import Member

        if not timeout >= SHORTEST_TIMEOUT:
            raise UsageError(f"--process-timeout {timeout:g}: expected {SHORTEST_TIMEOUT} seconds or more")
        given = {"--coordinator": coordinator, "--process-id": process_id, "--num-processes": num_processes}
        missing = [flag for flag, value in given.items() if value is None]
        if coordinator is not None and process_id is not None and num_processes is not None:
            return cls(True, Member(coordinator, process_id, num_processes), timeout)
        if len(missing) < len(given):
            raise UsageError(
                f"{', '.join(flag for flag in given if flag not in missing)} without {' and '.join(missing)}: give all"
                " three, or only --distributed where Slurm, Open MPI or Kubernetes start the processes"
            )
        return cls(distributed, None, timeout)

    def start(self) -> None:
        """Join the other processes, if there are to be any; before JAX touches a device.

        Raises:
            UsageError, ProcessFailure: as `processes.start`.
        """
        if not self.several:
            return
        from jax_interp.runtime.processes import start

        start(self.member, stale=self.timeout)
