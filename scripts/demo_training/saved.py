"""Trees of arrays in one file, so that a run can stop and go on on another machine."""

from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jax_interp.files.atomic import open_atomically
from jax_interp.nn.params import flatten
from jax_interp.types import Params

TreeT = TypeVar("TreeT")


def save(path: Path, tree: Any) -> None:
    """Write the leaves of `tree` atomically."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    with open_atomically(path) as file:
        np.savez(file, *leaves)


def save_params(path: Path, params: Params) -> None:
    """Write the arrays of `params` atomically, each under its path in the tree."""
    arrays: dict[str, Any] = {name: np.asarray(leaf) for name, leaf in flatten(params)}
    with open_atomically(path) as file:
        np.savez(file, **arrays)


def load(path: Path, like: TreeT) -> TreeT:
    """Return the leaves in `path` in the structure of `like`.

    Raises:
        ValueError: they are not as many, or of other shapes.
    """
    leaves, structure = jax.tree.flatten(like)
    with np.load(path, allow_pickle=False) as stored:
        found = [stored[f"arr_{i}"] for i in range(len(stored.files))]
    if [np.shape(leaf) for leaf in leaves] != [leaf.shape for leaf in found]:
        raise ValueError(f"{path} is of another run; remove it, or give another --work")
    return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in found])
