"""Negative controls: copies of a converted folder in which one thing is wrong, on disk."""

import shutil
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np

from jax_interp.runtime.checkpoint.converted import open_component
from jax_interp.runtime.checkpoint.description import PARAMS_FOLDER
from jax_interp.runtime.checkpoint.param_files import open_array

Control = Callable[[Path, str], None]
"""Damages the array of a name in the folder of one converted network."""


def flip(network: Path, name: str) -> None:
    """Another sign of the first value of block 1."""
    change(network, name, 1, negated_first)


def transpose(network: Path, name: str) -> None:
    """A square matrix of block 1 with rows for columns."""
    change(network, name, 1, lambda x: x.T)


def round_to_fp8(network: Path, name: str) -> None:
    """The matrix of block 1 as eight bits keep it."""
    change(network, name, 1, lambda x: x.astype(ml_dtypes.float8_e4m3fn).astype(x.dtype))


def swap_blocks(network: Path, name: str) -> None:
    """Blocks 1 and 2 in each other's place, in every array."""
    del name
    for path in open_component(network).manifest["params"]:
        if "blocks/" in path:
            store = open_array(network / PARAMS_FOLDER, path)
            one, two = (np.asarray(store[row].read().result()) for row in (1, 2))
            store[1].write(two).result()
            store[2].write(one).result()


CONTROLS: dict[str, Control] = {
    "one flipped value": flip,
    "a transposed matrix": transpose,
    "swapped blocks": swap_blocks,
    "a matrix in fp8": round_to_fp8,
}


def change(network: Path, name: str, row: int | None, function: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace an array, or a row of it, by `function` of it; file sizes stay as they are."""
    store = open_array(network / PARAMS_FOLDER, name)
    part = store if row is None else store[row]
    before = np.asarray(part.read().result())
    after = function(before)
    assert after.dtype == before.dtype
    assert not np.array_equal(after, before)
    part.write(after).result()


def negated_first(array: np.ndarray) -> np.ndarray:
    """The array with another sign of its first value."""
    flat = array.reshape(-1).copy()
    flat[0] *= -1
    return flat.reshape(array.shape)


def copied(converted: Path, folder: str, root: Path) -> Path:
    """The folder of one network of `converted`, in a converted folder of its own at `root`."""
    shutil.copytree(converted / folder, root / folder)
    return root / folder
