"""The networks of a run together: where each lives, what they take, and how they are moved."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import jax

from jax_interp.byte_sizes import gib
from jax_interp.components import PLACEMENT_NAMES, placement_name
from jax_interp.errors import OutOfMemory, UsageError
from jax_interp.pipeline.memory.footprint import peak_host_bytes
from jax_interp.pipeline.memory.plan import PlannedNetwork, Planner
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.pipeline.stages.stage import NetworkStage
from jax_interp.runtime.hardware import host_memory
from jax_interp.runtime.host import host_out_of_memory, out_of_memory
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.placement import Kind, Placement


class Placed(Protocol):
    """What is placed under one name: a network, or several that go together."""

    @property
    def placed_as(self) -> str:
        """That name, one of `components.PLACEMENT_NAMES`."""
        ...

    @property
    def placement(self) -> Placement:
        """Where it lives."""
        ...

    @property
    def networks(self) -> Mapping[str, NetworkStage]:
        """Its networks by name: `{"pictures": ..., "language": ...}`, or `{"": ...}` where it is one network."""
        ...

    def place(self, placement: Placement) -> None:
        """Use `placement` from the next stage on."""
        ...

    def unload(self) -> None:
        """Give the parameters' memory back."""
        ...


class Networks:
    """What a run has under each of `components.PLACEMENT_NAMES`."""

    def __init__(self, placed: Iterable[Placed], devices: DeviceMesh):
        self._placed = {each.placed_as: each for each in placed}
        self._devices = devices

    @property
    def each(self) -> dict[str, NetworkStage]:
        """Every network by the name that plans have for it (`components.ComponentRow.plan_names`)."""
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
        networks = {
            name: PlannedNetwork(type(stage), stage.config, stage.precision) for name, stage in self.each.items()
        }
        return Planner(networks, settings.workload(self._devices.shape, self._devices.share_axes))

    def place(self, placements: Mapping[str, Placement | Kind]) -> None:
        """Use `placements` from now on; those that are not named keep theirs.

        Raises:
            UsageError: a name is unknown.
            OutOfMemory: the host has too little memory for the parameters that would wait there.
        """
        if unknown := placements.keys() - set(PLACEMENT_NAMES):
            raise UsageError(
                f"no network is called {', '.join(sorted(unknown))}; there are {', '.join(PLACEMENT_NAMES)}"
            )
        current = self.placements
        wanted = {name: Placement(value) if isinstance(value, str) else value for name, value in placements.items()}
        full = {name: wanted.get(name, placement) for name, placement in current.items()}
        changing = {name for name in current if current[name] != full[name]}
        footprints = self.planner(InterpolationSettings()).footprints()
        prints = {name: found for name, found in footprints.items() if placement_name(name) in changing}
        needed = peak_host_bytes(prints, {name: full[placement_name(name)] for name in prints})
        free, _ = host_memory()
        if needed > free:
            raise OutOfMemory(
                f"{gib(needed)} of parameters would wait in host memory, of which {gib(free)} are free: offload or"
                " stream fewer networks (a larger --memory-budget), or free host memory"
            )
        for name, placed in self._placed.items():
            placed.place(full[name])

    @contextmanager
    def explain_out_of_memory(self, stage: str, settings: InterpolationSettings) -> Iterator[None]:
        """Where memory runs out within, unload all networks and say what would fit a run with `settings`.

        `stage` is what the message calls that which is going on.

        Raises:
            OutOfMemory: in place of what said that the memory of the host or of a device ran out.
        """
        try:
            yield
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not out_of_memory(error):
                raise
            self.unload()
            advice = self.planner(settings).advice(self.placements, on_host=host_out_of_memory(error))
            raise OutOfMemory(f"out of memory in the stage {stage!r} {advice}") from error

    def unload(self) -> None:
        """Give back the memory of all; the next use loads them again."""
        for placed in self._placed.values():
            placed.unload()
