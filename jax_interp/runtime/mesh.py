"""The devices of a run as a mesh, and the layout of arrays over it.

The axis `data` runs pairs (and guidance branches) in parallel, `sequence` splits the tokens of each, and `tensor`
splits heads and hidden units, and with them the weights.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_interp.errors import UsageError
from jax_interp.runtime.host import PINNED, out_of_memory, pins, warn_pageable_once
from jax_interp.runtime.mesh_shape import ALONE, AXES, MeshShape
from jax_interp.types import Params

Specs = Any
"""One `PartitionSpec` for all leaves of a tree, or a tree of them with the same structure."""


REPLICATED = P()
"""The spec of an array that is the same on every device."""


class DeviceMesh:
    """The devices in use, and the transfer of arrays to them.

    `shard_axes` are the axes along which weights may be sharded and gathered again block by block: those whose
    neighbours are in one process, where links are fast and host memory is common.
    """

    def __init__(self, shape: MeshShape = ALONE, devices: Sequence[jax.Device] | None = None):
        """Use the first devices that JAX has, or `devices`.

        Raises:
            UsageError: there are fewer than `shape` needs, or the devices of one process would be unequally used.
        """
        found = list(jax.devices() if devices is None else devices)
        if len(found) < shape.size:
            raise UsageError(
                f"--mesh {shape} needs {shape.size} devices, but {len(found)} are there"
                f" ({found[0].platform}, in {jax.process_count()} process(es))"
            )
        used = _evenly(found, shape.size)
        if len(used) != shape.size:
            raise UsageError(
                f"--mesh {shape}: its {shape.size} devices cannot be divided among {jax.process_count()} processes"
            )
        self.shape = shape
        self.mesh = jax.make_mesh(
            (shape.data, shape.sequence, shape.tensor), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=used
        )
        self.alone = shape.size == 1
        self._shardings: dict[tuple[P, bool], NamedSharding] = {}
        if not self._in_one_process("tensor"):
            raise UsageError(f"--mesh {shape}: the devices of the axis tensor have to be in one process")
        self.shard_axes = tuple(axis for axis in AXES[:2] if self._in_one_process(axis))

    @property
    def num_shards(self) -> int:
        """The number of shards into which `shard_axes` divide a weight."""
        return self.shape.along(self.shard_axes)

    def sharding(self, spec: P = REPLICATED, *, host: bool = False) -> NamedSharding:
        """Return the sharding of `spec` over these devices, in their memory or in pinned host memory next to them."""
        key = (spec, host)
        if key not in self._shardings:  # streaming needs some thousands in a second
            device = self.mesh.local_devices[0]
            kind = PINNED if host and pins(device) else device.default_memory().kind
            self._shardings[key] = NamedSharding(self.mesh, spec, memory_kind=kind)
        return self._shardings[key]

    def shardings(self, tree: Any, specs: Specs, *, host: bool = False) -> Any:
        """Return a sharding for every leaf of `tree`."""
        if isinstance(specs, P):
            return jax.tree.map(lambda _: self.sharding(specs, host=host), tree)
        return jax.tree.map(lambda _, spec: self.sharding(spec, host=host), tree, specs)

    def put(self, tree: Any, specs: Specs = REPLICATED, *, host: bool = False) -> Any:
        """Start copying `tree`, which is the same in all processes, to where `specs` say, and return at once."""
        shardings = self.shardings(tree, specs, host=host)
        if not self.mesh.is_multi_process:
            return jax.device_put(tree, shardings)
        return jax.tree.map(self._put, tree, shardings)

    def keep_on_host(self, params: Params, specs: Specs = REPLICATED) -> Params:
        """Move `params` (numpy arrays) to where these devices copy them from fastest: pinned memory if there is enough.

        Otherwise they stay as they are. Pinned memory can run out long before memory does: XLA takes 64 GB of it by
        default.
        """
        if not pins(self.mesh.local_devices[0]):
            return params
        try:
            return jax.block_until_ready(self.put(params, specs, host=True))
        except jax.errors.JaxRuntimeError as error:
            if not out_of_memory(error):
                raise
            warn_pageable_once()
            return params

    def local(self, shape: tuple[int, ...], spec: P, piece: Callable[[Any], np.ndarray]) -> jax.Array:
        """Return an array of `shape` that is made of `piece(indices)`, called only for this process' devices."""
        return jax.make_array_from_callback(shape, self.sharding(spec), piece)

    def _put(self, leaf: Any, sharding: NamedSharding) -> Any:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        return jax.make_array_from_callback(np.shape(leaf), sharding, lambda index: np.asarray(leaf)[index])

    def _in_one_process(self, axis: str) -> bool:
        """Tell whether devices that differ only along `axis` are in one process."""
        processes = np.vectorize(lambda device: device.process_index)(self.mesh.devices)
        return bool((processes == processes.take([0], AXES.index(axis))).all())


def _evenly(devices: Sequence[jax.Device], count: int) -> list[jax.Device]:
    """Return the same number of first devices of every process; these are `count` in all if that divides evenly."""
    of_process: dict[int, list[jax.Device]] = {}
    for device in devices:
        of_process.setdefault(device.process_index, []).append(device)
    each = count // len(of_process)
    return [device for process in sorted(of_process) for device in of_process[process][:each]]


def local_shapes(abstract: Params, shardings: Any) -> Params:
    """Return the shape of one device's shard of every array of `abstract`."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(sharding.shard_shape(leaf.shape), leaf.dtype), abstract, shardings
    )
