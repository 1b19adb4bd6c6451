"""The end of a stage: however it comes about, parameters that are not resident leave the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Offloadable(Protocol):
    """A network, or several, whose stage ends with `offload`, as that of a `NetworkStage` does."""

    def offload(self) -> None:
        """End the stage: parameters that are not resident leave the device."""
        ...


@contextmanager
def offloading(network: Offloadable | None) -> Iterator[None]:
    """Offload `network` after the block, also when the block raises; None, where there is no network, does nothing.

    A program that goes on after an error or an interrupt then has the memory that its plan counts on.
    """
    try:
        yield
    finally:
        if network is not None:
            network.offload()
