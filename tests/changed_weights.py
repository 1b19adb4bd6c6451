"""Stages whose weights are not those on disk."""

from collections.abc import Callable, Collection

import numpy as np

from jax_interp.nn.params import flatten, unflatten
from jax_interp.pipeline.stages.stage import StackedStage
from jax_interp.runtime.checkpoint.loading import BLOCKS
from jax_interp.types import Params

Change = Callable[[np.ndarray], np.ndarray]


def change_weight(stage: StackedStage, path: str, change: Change) -> None:
    """From now on `stage` has `change(array)` in place of its parameter `path`; of a stack only block 0 changes."""
    stage.unload()
    stage._stored = _Changed(stage._stored, path, change)  # pyright: ignore[reportAttributeAccessIssue]


def nudge(array: np.ndarray, amount: float) -> np.ndarray:
    """`array` with `amount` added to its first value."""
    changed = array.copy()
    changed.flat[0] += amount
    return changed


class _Changed:
    def __init__(self, stored, path: str, change: Change):
        self._stored, self._path, self._change = stored, path, change

    def array(self, path: str) -> np.ndarray:
        array = self._stored.array(path)
        return self._change(array) if path == self._path else array

    def outer(self, host_only: Collection[str] = ()) -> Params:
        params = self._stored.outer(host_only)
        return params if self._path.startswith(BLOCKS) else self._changed(params, self._path)

    def part(self, index: int, names: Collection[str]) -> Params:
        params = self._stored.part(index, names)
        name = self._path.removeprefix(BLOCKS)
        changes = index == 0 and name != self._path and name.split("/")[0] in names
        return self._changed(params, name) if changes else params

    def _changed(self, params: Params, name: str) -> Params:
        leaves = dict(flatten(params))
        leaves[name] = self._change(leaves[name])
        return unflatten(leaves)
