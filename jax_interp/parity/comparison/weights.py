"""The stored weights of a converted network against the checkpoint's tensors, to the bit.

Running a network does not show a single wrong value among the millions of a large matrix: its share of the output is
below the rounding errors of float32. So every tensor of the checkpoint is laid out as the weight table says, rounded to
the dtype that the conversion was asked for, and compared with what is stored, one tensor at a time.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from convert.mapping.matching import Leaf
from convert.target.streams import target_dtype
from jax_interp.parity.comparison.pairs import Pair
from jax_interp.parity.findings import Difference, WeightsFinding, relative_error
from jax_interp.runtime.checkpoint.description import PARAMS_FOLDER
from jax_interp.runtime.checkpoint.loading import BLOCKS, damage_reported
from jax_interp.runtime.checkpoint.param_files import read_arrays


def compare_weights(pair: Pair, within: str, advance: Callable[[int], Any]) -> WeightsFinding:
    """Compare every array under the prefix `within`; `advance` is told of each tensor that is done.

    Raises:
        CheckpointError: a file of either side is damaged, or was changed meanwhile.
    """
    leaves = leaves_within(pair, within)
    differences = [found for leaf in leaves for found in _compare(pair, leaf, within, advance)]
    return WeightsFinding(sum(len(leaf.keys) for leaf in leaves), tuple(differences))


def leaves_within(pair: Pair, within: str) -> list[Leaf]:
    """Return the arrays of the pair whose paths begin with `within`."""
    return [leaf for leaf in pair.leaves if leaf.path.startswith(within)]


def block_of(path: str, index: int | None) -> str:
    """Return the part of a network that the array at `path` belongs to, as "block 3" or "encoder/down_0/block_1".

    `index` is the number of the block, None for an array that is in no stack.
    """
    if index is not None:
        return f"block {index}"
    *parents, name = path.split("/")
    return "/".join(parents[:3]) or name


def _compare(pair: Pair, leaf: Leaf, within: str, advance: Callable[[int], Any]) -> Iterator[Difference]:
    stored = pair.converted.manifest["params"].get(leaf.path)
    path = leaf.path.removeprefix(within)
    expected = target_dtype(pair.opened.tensors[leaf.keys[0]].dtype, pair.converted.manifest["settings"].get("dtype"))
    if misfit := _misfit(stored, leaf.shape, expected.name):
        yield Difference(block_of(path, None), path, int(np.prod(leaf.shape)), float("inf"), misfit)
        advance(len(leaf.keys))
        return
    for row, key in enumerate(leaf.keys):
        index = row if leaf.stacked else None
        values = pair.opened.tensors[key].read()
        with np.errstate(over="ignore"):
            theirs = leaf.op.forward(values).astype(expected, copy=False)
        with damage_reported(pair.converted):
            ours = read_arrays(pair.converted.path / PARAMS_FOLDER, {leaf.path: expected}, index)[leaf.path]
        if (wrong := _differing(ours, theirs)) is not None:
            yield Difference(block_of(path, index), path.removeprefix(BLOCKS), *wrong)
        advance(1)


def _misfit(stored: Any, shape: tuple[int, ...], dtype: str) -> str | None:
    """Return why an array, of which the manifest says `stored`, cannot be compared by values; None if it can."""
    if stored is None:
        return "is missing"
    if tuple(stored["shape"]) != shape:
        return f"has the shape {list(stored['shape'])}, the checkpoint's {list(shape)}"
    return None if stored["dtype"] == dtype else f"is {stored['dtype']}, expected {dtype}"


def _differing(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, float] | None:
    """Return how many values differ in a bit and the relative error; None if none does."""
    bits = np.dtype(f"u{theirs.dtype.itemsize}")
    unequal = np.ascontiguousarray(ours).view(bits) != np.ascontiguousarray(theirs).view(bits)
    count = int(np.count_nonzero(unequal))
    return (count, relative_error(ours, theirs)) if count else None
