"""The networks of a run together: where each lives, what they take, and how they are moved."""

from collections.abc import Mapping
from typing import Protocol

from jax_interp.errors import OutOfMemory, UsageError
from jax_interp.pipeline.memory.footprint import Workload, waiting_on_host
from jax_interp.pipeline.memory.plan import Planner, gib
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.pipeline.stages.stage import NetworkStage
from jax_interp.runtime.hardware import host_memory
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.placement import NETWORKS, Kind, Placement, placed_as
from jax_interp.types import Precision


class Placed(Protocol):
    """What is placed under one name: a network, or several that go together."""

    @property
    def placement(self) -> Placement:
        """Where it lives."""
        ...

    @property
    def networks(self) -> Mapping[str, NetworkStage]:
        """Its networks; a single one goes by no name of its own."""
        ...

    def place(self, placement: Placement) -> None:
        """Use `placement` from the next stage on."""
        ...

    def unload(self) -> None:
        """Give the parameters' memory back."""
        ...


class Networks:
    """What a run has under the names of `runtime.placement.NETWORKS`."""

    def __init__(self, placed: Mapping[str, Placed], devices: DeviceMesh):
        self._placed = dict(placed)
        self._devices = devices

    @property
    def each(self) -> dict[str, NetworkStage]:
        """Every network by the name that `pipeline.plan.Planner` gives it."""
        return {
            f"{name}/{own}" if own else name: network
            for name, placed in self._placed.items()
            for own, network in placed.networks.items()
        }

    @property
    def placements(self) -> dict[str, Placement]:
        """Where they live; see `place`."""
        return {name: placed.placement for name, placed in self._placed.items()}

    def planner(self, settings: InterpolationSettings) -> Planner:
        """Predicts what runs with `settings` take, and finds placements that fit into a budget."""
        each = self.each
        precisions: dict[str, Precision] = {name: network.precision for name, network in each.items()}
        workload = Workload.of(settings, self._devices.shape, self._devices.share_axes)
        return Planner({name: network.config for name, network in each.items()}, precisions, workload)

    def place(self, placements: Mapping[str, Placement | Kind]) -> None:
        """Use `placements` from now on; those that are not named keep theirs.

        Raises:
            UsageError: a name is unknown.
            OutOfMemory: the host has too little memory for the parameters that would wait there.
        """
        unknown = placements.keys() - set(NETWORKS)
        if unknown:
            raise UsageError(f"no network is called {', '.join(sorted(unknown))}; there are {', '.join(NETWORKS)}")
        current = self.placements
        wanted = {name: Placement(value) if isinstance(value, str) else value for name, value in placements.items()}
        full = {name: wanted.get(name, placement) for name, placement in current.items()}
        prints = self.planner(InterpolationSettings()).footprints()
        changing = {name: found for name, found in prints.items() if current[placed_as(name)] != full[placed_as(name)]}
        needed = waiting_on_host(changing, {name: full[placed_as(name)] for name in changing})
        free, _ = host_memory()
        if needed > free:
            raise OutOfMemory(
                f"{gib(needed)} of parameters would wait in host memory, of which {gib(free)} are free: offload or"
                " stream fewer networks (a larger --memory-budget), or free host memory"
            )
        for name, placed in self._placed.items():
            placed.place(full[name])

    def unload(self) -> None:
        """Give back the memory of all; the next use loads them again."""
        for placed in self._placed.values():
            placed.unload()
