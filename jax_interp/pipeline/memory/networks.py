"""The networks of a run: their placements, the memory that they take, and how they are moved."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import jax

from jax_interp.byte_sizes import gib
from jax_interp.components import PLACEMENT_NAMES, placement_name
from jax_interp.errors import OutOfMemory, UsageError
from jax_interp.pipeline.memory.footprint import peak_host_bytes
from jax_interp.pipeline.memory.plan import PlannedNetwork, Planner
from jax_interp.pipeline.settings import InterpolationSettings, RunSettings
from jax_interp.pipeline.stages.stage import NetworkStage
from jax_interp.runtime.hardware import host_memory
from jax_interp.runtime.host import host_out_of_memory, out_of_memory
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.placement import Kind, Placement


class Placed(Protocol):
    """One or several networks that share a placement, for example a `Denoiser`, or a `PromptUpsampler` with its two."""

    @property
    def placed_as(self) -> str:
        """The name of the placement, one of `components.PLACEMENT_NAMES`."""
        ...

    @property
    def placement(self) -> Placement:
        """The current placement."""
        ...

    @property
    def networks(self) -> Mapping[str, NetworkStage]:
        """The networks by name: `{"pictures": ..., "language": ...}`, or `{"": ...}` if there is only one."""
        ...

    def place(self, placement: Placement) -> None:
        """Use `placement` from the next stage on."""
        ...

    def unload(self) -> None:
        """Free the parameters' memory."""
        ...


class Networks:
    """The networks of a run, by the names in `components.PLACEMENT_NAMES`."""

    def __init__(self, placed: Iterable[Placed], devices: DeviceMesh):
        self._placed = {each.placed_as: each for each in placed}
        self._devices = devices

    @property
    def each(self) -> dict[str, NetworkStage]:
        """Return every network by the name that plans have for it (`components.ComponentRow.plan_names`)."""
        return {
            f"{name}/{own}" if own else name: network
            for name, placed in self._placed.items()
            for own, network in placed.networks.items()
        }

    @property
    def placements(self) -> dict[str, Placement]:
        """The placement under every name; see `place`."""
        return {name: placed.placement for name, placed in self._placed.items()}

    def planner(self, settings: RunSettings) -> Planner:
        """Return a planner: it predicts the memory of runs with `settings` and finds placements that fit a budget."""
        networks = {
            name: PlannedNetwork(type(stage), stage.config, stage.precision, stage.quantization)
            for name, stage in self.each.items()
        }
        return Planner(networks, settings.workload(self._devices.shape, self._devices.shard_axes))

    def place(self, placements: Mapping[str, Placement | Kind]) -> None:
        """Use `placements` from now on; networks that are not named keep theirs.

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
    def explain_out_of_memory(self, stage: str, settings: RunSettings) -> Iterator[None]:
        """If memory runs out in the block, unload all networks and say what would fit a run with `settings`.

        `stage` is the message's name for what the block does, for example "decode".

        Raises:
            OutOfMemory: the memory of the host or of a device ran out; replaces the exception that reported it.
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
        """Free the memory of all networks; the next use loads them again."""
        for placed in self._placed.values():
            placed.unload()
