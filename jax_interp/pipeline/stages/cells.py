"""The layout of the diffusion transformer's tokens on a mesh: by frame and by cell, a cell being one patch of a frame.

A device has some of the rows of a batch (`data`) and the same cells of every frame (`sequence`). Where cells do not
divide evenly, the cells of the last devices are padded with zeros, which no real token attends to.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from jax_interp.models.dit import ALL, DiT, DiTBlock, DiTBlockInputs, patch_grid
from jax_interp.nn.embeddings import CellPositions
from jax_interp.runtime.all_to_all import collectives_between
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.types import Tokens

Cells = Float[Array, "B T cells D"]
"""The residual stream by frame; within `jax.shard_map`, the cells of one device."""
Attention: TypeAlias = Callable[[Array, Array, Array], Array]
"""A function of queries, keys and values, [B, L, N, K] each."""

CELLS_SPEC = P("data", None, "sequence")
"""The spec of the residual stream on a mesh."""
SHARED_SPECS: Any = DiTBlockInputs(
    *(P("data"), P("data"), CellPositions(P(None, "sequence")), P(None, None, "sequence"), P("data"))  # pyright: ignore
)
"""The specs of the inputs that all blocks read."""


def num_cells(shape: tuple[int, ...], patch_size: int) -> int:
    """Return the number of cells of one frame of latents of `shape`."""
    _, rows, columns = patch_grid(shape, patch_size)
    return rows * columns


def lay_out(
    tokens: Tokens, shared: DiTBlockInputs, num_frames: int, devices: DeviceMesh
) -> tuple[Cells, DiTBlockInputs]:
    """Return the outputs of `DiT.embed` by frame, padded so that they divide among `devices` as the specs say.

    The specs are `CELLS_SPEC` for the residual stream and `SHARED_SPECS` for what all blocks read.
    """
    cells = tokens.reshape(tokens.shape[0], num_frames, -1, tokens.shape[-1])
    if devices.alone:
        return cells, shared
    vectors = shared.positions.expand().reshape(num_frames, -1, cells.shape[-1])
    rotation = shared.rotation.reshape(2, num_frames, -1, shared.rotation.shape[-1])
    positions = CellPositions(_fill_up(vectors, 1, devices))
    return _fill_up(cells, 2, devices), shared._replace(positions=positions, rotation=_fill_up(rotation, 2, devices))


# On every device of a mesh by itself.


def attend(
    block: DiTBlock,
    x: Cells,
    shared: DiTBlockInputs,
    *,
    devices: DeviceMesh,
    cells: int,
    between: bool = False,
    attention: Attention | None = None,
) -> Cells:
    """Run `DiTBlock.attend` on this device's cells; the devices together have `cells` cells a frame.

    With `between` the result has only the frames between the first and the last. `attention` is the self-attention in
    place of that of `devices`.
    """
    rows, _, cells_here, width = x.shape
    inputs = shared._replace(rotation=shared.rotation.reshape(2, -1, shared.rotation.shape[-1]))
    flat = x.reshape(rows, -1, width)
    chosen = slice(cells_here, flat.shape[1] - cells_here) if between else ALL
    collectives = collectives_between(devices, cells=cells, cells_here=cells_here)
    if attention is not None:
        collectives = collectives._replace(attend=attention)
    return block.attend(flat, inputs, chosen, collectives).reshape(rows, -1, cells_here, width)


def transform(block: DiTBlock, x: Cells, shared: DiTBlockInputs, *, devices: DeviceMesh) -> Cells:
    """Run `DiTBlock.transform` on this device's cells."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    return block.transform(flat, shared, collectives_between(devices)).reshape(x.shape)


def project(network: DiT, x: Cells, shared: DiTBlockInputs) -> Float[Array, "B T cells P"]:
    """Run `DiT.project` on this device's cells."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    return network.project(flat, shared).reshape(*x.shape[:3], -1)


def _fill_up(x: Array, axis: int, devices: DeviceMesh) -> Array:
    """Pad `x` with zeros at the end of `axis`, so that it divides among the devices."""
    padding = [(0, 0)] * x.ndim
    padding[axis] = (0, -x.shape[axis] % devices.shape.sequence)
    return jnp.pad(x, padding)
