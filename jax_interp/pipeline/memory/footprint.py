"""How many bytes each network takes, on the device and on the host, by what a run asks of it.

Parameters are counted exactly, from the structure that a stage's class gives to a configuration. Activations are what
one compiled block holds at its widest point; the class has the formula.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax.numpy as jnp

from jax_interp.byte_sizes import GIB
from jax_interp.config import Precision
from jax_interp.nn.params import StackedNetwork
from jax_interp.pipeline.stages.stage import NetworkStage, StackedStage
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime.block_stream import PREFETCHED_PARTS
from jax_interp.runtime.host import nbytes
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.runtime.placement import Kind, Placement
from jax_interp.runtime.sharding import device_bytes

WORKSPACE = 9 * GIB // 16
"""What every stage takes beside parameters and activations: where XLA tries out kernels, libraries' workspaces."""

Stage = type[NetworkStage[Any]]
"""The class of a stage: what a plan asks about a network."""


@dataclass(frozen=True)
class Footprint:
    """The bytes of one network, on one device unless it says otherwise."""

    outer: int
    """Parameters outside of the stack of blocks."""
    block: int
    share: int
    """What it holds of a block that is divided among devices."""
    num_parts: int
    """Of a block; each moves by itself."""
    num_blocks: int
    activations: int
    """Largest need of its stage beside parameters."""
    params: int
    """All parameters, on however many devices."""
    kept_on_host: Collection[Kind] = StackedStage.KEEP_ON_HOST
    """Placements in which parameters wait there; in others they are read from disk for every stage."""
    leaves_host: bool = StackedStage.UNLOAD_HOST
    """Whether they wait there for their own stage only."""

    def in_stage(self, placement: Placement) -> int:
        """Bytes on the device at the peak of its stage."""
        stay = placement.blocks_on_device(self.num_blocks)
        each = self._each(placement)
        # `PREFETCHED_PARTS` parts are prefetched beside the computing one (`runtime.block_stream`). Of what is sharded,
        # the computing part and its successor are gathered on the device (`runtime.gather_ahead`).
        passing = min((1 + PREFETCHED_PARTS) * each // max(self.num_parts, 1), (self.num_blocks - stay) * each)
        together = 2 * self.block // max(self.num_parts, 1) if each < self.block else 0
        return self.outer + stay * each + passing + together + self.activations + WORKSPACE

    def at_rest(self, placement: Placement) -> int:
        """Bytes on the device while other stages run."""
        return self.outer + self.num_blocks * self._each(placement) if placement.stays else 0

    def on_host(self, placement: Placement) -> int:
        """Bytes that wait in host memory."""
        return self.params if placement.kind in self.kept_on_host else 0

    def _each(self, placement: Placement) -> int:
        return self.share if placement.shares else self.block


def peak_host_bytes(footprints: Mapping[str, Footprint], placements: Mapping[str, Placement]) -> int:
    """Most bytes of parameters that wait in host memory at a time."""
    bytes_of = {name: found.on_host(placements[name]) for name, found in footprints.items()}
    passing = [bytes_of[name] for name, found in footprints.items() if found.leaves_host]
    return sum(bytes_of.values()) - sum(passing) + max(passing, default=0)


def footprint(stage: Stage, config: Any, precision: Precision, workload: Workload) -> Footprint:
    """The bytes of the network `config` in `precision`, run by a stage of that class."""
    activations = stage.activations(config, jnp.dtype(precision).itemsize, workload)
    return replace(_parameters(stage, config, precision, workload.mesh, workload.share_axes), activations=activations)


@cache
def _parameters(
    stage: Stage, config: Any, precision: Precision, mesh: MeshShape, share_axes: tuple[str, ...]
) -> Footprint:
    """The footprint without activations."""
    network = stage.structure(config, precision)
    if not (issubclass(stage, StackedStage) and isinstance(network, StackedNetwork)):
        whole = nbytes(network.abstract)
        return Footprint(whole, block=0, share=0, num_parts=0, num_blocks=0, activations=0, params=whole)
    outer = nbytes(network.outer_abstract)
    block, share = device_bytes(network.block_abstract, mesh, share_axes)
    return Footprint(
        outer,
        block,
        share,
        num_parts=len(network.parts),
        num_blocks=network.num_blocks,
        activations=0,
        params=outer + network.num_blocks * nbytes(network.block_abstract),
        kept_on_host=stage.KEEP_ON_HOST,
        leaves_host=stage.UNLOAD_HOST,
    )
