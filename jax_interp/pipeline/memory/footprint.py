"""The bytes that each network takes, on the device and on the host, for a given workload.

Parameters are counted exactly, from the structure that a stage's class gives to a configuration. Activations are
those that one compiled block needs at its peak; the formula is a method of the stage's class.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax.numpy as jnp

from jax_interp.byte_sizes import GIB
from jax_interp.config import Precision, Quantization
from jax_interp.nn.params import StackedNetwork
from jax_interp.pipeline.stages.stage import NetworkStage, StackedStage
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime.block_stream import PREFETCHED_PARTS
from jax_interp.runtime.host import nbytes
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.runtime.placement import Kind, Placement
from jax_interp.runtime.sharding import device_bytes

WORKSPACE = 9 * GIB // 16
"""Bytes that every stage takes beside parameters and activations: XLA's autotuning buffers, libraries' workspaces."""

Stage = type[NetworkStage[Any]]
"""The class of a stage, of which a plan reads the network's structure and activations."""


@dataclass(frozen=True)
class Footprint:
    """The bytes of one network, on one device unless a field says otherwise."""

    outer: int
    """Bytes of the parameters outside of the stack of blocks."""
    block: int
    shard: int
    """Bytes of one device's shard of a block that is sharded."""
    num_parts: int
    """The number of parts of a block; each part moves between host and device by itself."""
    num_blocks: int
    activations: int
    """The peak bytes of the network's stage beside parameters."""
    params: int
    """Bytes of all parameters together, however many devices there are."""
    kept_on_host: Collection[Kind] = StackedStage.KEEP_ON_HOST
    """The placements in which parameters wait in host memory; in others every stage reads them from disk."""
    leaves_host: bool = StackedStage.UNLOAD_HOST
    """Whether parameters occupy host memory during their own stage only."""

    def in_stage(self, placement: Placement) -> int:
        """Return the bytes on the device at the peak of the network's own stage."""
        stay = placement.blocks_on_device(self.num_blocks)
        each = self._each(placement)
        # `PREFETCHED_PARTS` parts are prefetched beside the computing one (`runtime.block_stream`). Of what is sharded,
        # the computing part and its successor are gathered on the device (`runtime.gather_ahead`).
        passing = min((1 + PREFETCHED_PARTS) * each // max(self.num_parts, 1), (self.num_blocks - stay) * each)
        together = 2 * self.block // max(self.num_parts, 1) if each < self.block else 0
        return self.outer + stay * each + passing + together + self.activations + WORKSPACE

    def at_rest(self, placement: Placement) -> int:
        """Return the bytes on the device while other stages run."""
        return self.outer + self.num_blocks * self._each(placement) if placement.stays else 0

    def on_host(self, placement: Placement) -> int:
        """Return the bytes of parameters that wait in host memory."""
        return self.params if placement.kind in self.kept_on_host else 0

    def _each(self, placement: Placement) -> int:
        return self.shard if placement.is_sharded else self.block


def peak_host_bytes(footprints: Mapping[str, Footprint], placements: Mapping[str, Placement]) -> int:
    """Return the largest number of bytes of parameters that wait in host memory at the same time."""
    bytes_of = {name: found.on_host(placements[name]) for name, found in footprints.items()}
    passing = [bytes_of[name] for name, found in footprints.items() if found.leaves_host]
    return sum(bytes_of.values()) - sum(passing) + max(passing, default=0)


def footprint(
    stage: Stage, config: Any, precision: Precision, workload: Workload, quantization: Quantization = "none"
) -> Footprint:
    """Return the footprint of the network `config` in `precision`, run by a stage of the class `stage`."""
    activations = stage.activations(config, jnp.dtype(precision).itemsize, workload)
    found = _parameters(stage, config, precision, quantization, workload.mesh, workload.shard_axes)
    return replace(found, activations=activations)


@cache
def _parameters(
    stage: Stage,
    config: Any,
    precision: Precision,
    quantization: Quantization,
    mesh: MeshShape,
    shard_axes: tuple[str, ...],
) -> Footprint:
    """Return the footprint without activations."""
    network = stage.structure(config, precision, quantization)
    if not (issubclass(stage, StackedStage) and isinstance(network, StackedNetwork)):
        whole = nbytes(network.abstract)
        return Footprint(whole, block=0, shard=0, num_parts=0, num_blocks=0, activations=0, params=whole)
    outer = nbytes(network.outer_abstract)
    block, shard = device_bytes(network.block_abstract, mesh, shard_axes)
    return Footprint(
        outer,
        block,
        shard,
        num_parts=len(network.parts),
        num_blocks=network.num_blocks,
        activations=0,
        params=outer + network.num_blocks * nbytes(network.block_abstract),
        kept_on_host=stage.KEEP_ON_HOST,
        leaves_host=stage.UNLOAD_HOST,
    )
