"""The identity of a process among several, checked before any of them starts. Imports no JAX."""

import re
import socket
from dataclasses import dataclass, field

from jax_interp.errors import UsageError


@dataclass(frozen=True)
class Member:
    """One of several processes that work together, for example `Member("node1:8476", index=0, count=2)`."""

    coordinator: str
    """HOST:PORT of process 0."""
    index: int
    count: int
    local_devices: tuple[int, ...] | None = None
    """The indices of the machine's accelerators that belong to this process; None stands for all."""
    host: str = field(default_factory=socket.gethostname)
    """The machine's name, for messages."""

    def __post_init__(self) -> None:
        """Check the numbers and the address.

        Raises:
            UsageError: they cannot be right.
        """
        if self.count < 1:
            raise UsageError(f"--num-processes {self.count}: expected a number from 1 on")
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"--process-id {self.index}: with --num-processes {self.count}, expected 0 to {self.count - 1}"
            )
        found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})", self.coordinator)
        if not found or not 0 < int(found[2]) < 2**16:
            raise UsageError(
                f"--coordinator {self.coordinator}: expected HOST:PORT, as node1:8476"
                "  (process 0's machine and a free port)"
            )

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port)
