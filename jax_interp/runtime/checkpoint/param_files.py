"""Parameters as an Orbax checkpoint on disk: written in chunks, and read straight into sharded arrays.

Orbax's own writer keeps every array in memory as a whole, up to three times. An `ArrayStream` is written in chunks of
`CHUNK_BYTES` instead, so that memory does not depend on the size of the network.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from jax_interp.nn.params import flatten, unflatten
from jax_interp.types import Params

CHUNK_BYTES = 1 << 24
"""The target size of a file: it has as many layers of a stack as fit in, and at least one."""

MIN_RESTORE_GB = 2
"""The gigabytes that may be in flight between disk and devices; more if a single array needs more."""


@dataclass(frozen=True)
class ArrayStream:
    """An array that is never in memory as a whole.

    `pieces(rows)` yields it in runs of `rows` along its first axis, of which the last may be shorter; an array without
    axes is one piece. For example, `lambda rows: split_rows(values, rows)`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    pieces: Callable[[int], Iterator[np.ndarray]]

    @classmethod
    def of(cls, array: np.ndarray | jax.Array) -> "ArrayStream":
        """Return the stream of an array that is in memory already."""
        values = np.asarray(array)
        return cls(values.shape, values.dtype, lambda rows: split_rows(values, rows))

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of the whole array."""
        return self.size * self.dtype.itemsize

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """The shape of the part that one file has: whole layers, so that a single layer can be read by itself."""
        if not self.shape:
            return ()
        row = max(1, math.prod(self.shape[1:]) * self.dtype.itemsize)
        rows = min(max(1, CHUNK_BYTES // row), self.shape[0])
        return tuple(max(1, length) for length in (rows, *self.shape[1:]))


def split_rows(values: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """Yield `values` in runs of `rows` along its first axis; a scalar is yielded as it is."""
    if not values.shape:
        yield values
        return
    for start in range(0, len(values), rows):
        yield values[start : start + rows]


def write_params(path: Path, params: Params) -> None:
    """Write a nested dict of arrays and `ArrayStream`s as one Orbax checkpoint at `path`, which must not exist.

    The checkpoint appears under its name only when it is complete. It is uncompressed, since bfloat16 weights hardly
    shrink.
    """
    streams = {name: leaf if isinstance(leaf, ArrayStream) else ArrayStream.of(leaf) for name, leaf in flatten(params)}
    registry = ocp.type_handlers.create_type_handler_registry(
        (ArrayStream, _StreamHandler()), (jax.Array, ocp.type_handlers.ArrayHandler())
    )
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_zarr3=True, type_handler_registry=registry)
    with _quiet(), ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(path.resolve(), args=ocp.args.PyTreeSave(unflatten(streams)))


def read_params(path: Path, target: Params) -> Params:
    """Read a checkpoint that `write_params` wrote into `jax.Array`s of the dtypes and shardings of `target`.

    `target` is a nested dict of `jax.ShapeDtypeStruct` with shardings, of exactly the stored paths and shapes. The
    sharding of the parameters when they were written does not matter. Host memory beyond the arrays is bounded.
    """
    arguments = jax.tree.map(
        lambda leaf: ocp.ArrayRestoreArgs(
            restore_type=jax.Array, sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype
        ),
        target,
    )
    # Orbax counts whole chunks in the stored dtype, which may be float32, and refuses an array above the limit.
    largest = max((math.prod(leaf.shape) * 4 for _, leaf in flatten(target)), default=0)
    together = _who_reads(target)
    handler = ocp.PyTreeCheckpointHandler(
        use_ocdbt=False,
        use_zarr3=True,
        restore_concurrent_gb=max(MIN_RESTORE_GB, largest // 10**9 + 2),
        multiprocessing_options=together,
    )
    with _quiet(), ocp.Checkpointer(handler, multiprocessing_options=together) as checkpointer:
        return checkpointer.restore(path.resolve(), args=ocp.args.PyTreeRestore(item=target, restore_args=arguments))


def _who_reads(target: Params) -> ocp.options.MultiprocessingOptions:
    """Return the processes that read: all, which Orbax synchronises, or only this one if the arrays are local."""
    if not all(leaf.sharding.is_fully_addressable for _, leaf in flatten(target)):
        return ocp.options.MultiprocessingOptions()
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process-{index}"
    )


def open_array(path: Path, name: str) -> ts.TensorStore:
    """Open one array of a checkpoint of `write_params`, by its path in the tree; only what is indexed is read.

    Raises:
        ValueError: the array, or the part that is read, is missing on disk.
    """
    # TensorStore takes no path with "..".
    kvstore = {"driver": "file", "path": f"{path.resolve() / name.replace('/', '.')}/"}
    return ts.open({"driver": "zarr3", "kvstore": kvstore, "fill_missing_data_reads": False}).result()


def read_arrays(path: Path, wanted: Mapping[str, np.dtype], row: int | None = None) -> dict[str, np.ndarray]:
    """Read arrays of a checkpoint of `write_params` by name, in the dtypes of `wanted`.

    With `row`, only that row of each array is read.

    All are read concurrently, straight into the arrays that are returned.

    Raises:
        ValueError: an array, or a part of it, is missing on disk.
    """
    stores = {name: ts.cast(open_array(path, name), dtype) for name, dtype in wanted.items()}
    reads = {name: (store if row is None else store[row]).read() for name, store in stores.items()}
    return {name: np.asarray(read.result()) for name, read in reads.items()}


class _StreamHandler(ocp.type_handlers.NumpyHandler):
    """The Orbax handler that writes an `ArrayStream` as the plain zarr array that Orbax's own handlers read."""

    async def serialize(self, values: Any, infos: Any, args: Any = None) -> list[Any]:
        del args  # dtypes and chunks are the stream's own
        for stream, info in zip(values, infos, strict=True):
            await info.await_path_creation()
            store = await ts.open(_zarr_spec(stream, Path(info.parent_dir) / info.name), create=True, open=True)
            start = 0
            for piece in stream.pieces(stream.chunk_shape[0] if stream.shape else 1):
                where = store[start : start + len(piece)] if stream.shape else store
                # A reference to the source would keep its pieces in memory long after they are on disk.
                await where.write(piece, can_reference_source_data_indefinitely=False)
                start += len(piece) if stream.shape else 1
                del piece  # before the next one is made
        return []


def _zarr_spec(stream: ArrayStream, path: Path) -> Mapping[str, Any]:
    grid = {"name": "regular", "configuration": {"chunk_shape": stream.chunk_shape}}
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        # A chunk of zeros is written too, so that a missing file always means damage, and reading it fails.
        "store_data_equal_to_fill_value": True,
        "metadata": {
            "shape": stream.shape,
            "data_type": stream.dtype.name,
            "chunk_grid": grid,
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        },
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Orbax's warnings about its other format off the terminal; errors are still raised as exceptions."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
