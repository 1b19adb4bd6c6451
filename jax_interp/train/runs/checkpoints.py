"""Checkpoints of a training run, which are complete or absent; the newest few are kept."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jax_interp.errors import CheckpointError
from jax_interp.nn.params import flatten, unflatten
from jax_interp.runtime.checkpoint.param_files import read_params, write_params
from jax_interp.runtime.host import out_of_memory
from jax_interp.train.steps.state import TrainState

STATE, PLACE = "state", "place.json"
_PREFIX = "step-"


class Restored(NamedTuple):
    """The content of a checkpoint."""

    state: TrainState
    data_state: Mapping[str, Any]
    """The state of the iterator of batches."""


class Checkpoints:
    """The folder `checkpoints/` of a run, a folder `step-000000100` for each checkpoint."""

    def __init__(self, folder: Path, keep: int):
        """Keep the newest `keep` checkpoints; what an interrupted run left half-written is removed."""
        self.folder, self._keep = folder, keep
        for leftover in folder.glob(f".{_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def steps(self) -> list[int]:
        """Return the steps after which there are checkpoints, oldest first."""
        found = (path.name.removeprefix(_PREFIX) for path in self.folder.glob(f"{_PREFIX}*"))
        return sorted(int(name) for name in found if name.isdecimal())

    def save(self, state: TrainState, data_state: Mapping[str, Any]) -> None:
        """Save `state`, which has done `state.step` steps, and then remove all but the newest checkpoints.

        Raises:
            CheckpointError: the disk is full or cannot be written to; earlier checkpoints stay.
        """
        target = self._path(int(state.step))
        partial = target.with_name(f".{target.name}")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write_params(partial / STATE, unflatten(_named(state)))
            (partial / PLACE).write_text(json.dumps(dict(data_state)) + "\n", "utf-8")
            partial.replace(target)
        except (OSError, ValueError) as error:  # TensorStore reports a full disk as a ValueError
            kept = f"the checkpoint of step {self.steps()[-1]} stays" if self.steps() else "there is no earlier one"
            raise CheckpointError(
                f"{target}: cannot be written ({error}); {kept}. Free some space, then go on with --resume"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        for step in self.steps()[: -self._keep]:
            shutil.rmtree(self._path(step), ignore_errors=True)

    def restore(self, step: int, abstract: TrainState) -> Restored:
        """Restore the checkpoint after `step` steps; `abstract` has the shapes, dtypes and shardings of its arrays.

        Raises:
            CheckpointError: it is damaged, or was made with other settings.
        """
        path, target = self._path(step), _named(abstract)
        try:
            stored = dict(flatten(read_params(path / STATE, unflatten(target))))
            data_state = json.loads((path / PLACE).read_text("utf-8"))
        except Exception as error:  # Orbax raises a bare Exception for an array that it cannot read
            if out_of_memory(error):
                raise
            older = [number for number in self.steps() if number < step]
            advice = f"remove it to go on from step {older[-1]}" if older else "start again in another --output-dir"
            raise CheckpointError(f"{path}: damaged, or of other settings ({error}); {advice}") from error
        leaves = [stored[name] for name in target]
        return Restored(jax.tree.unflatten(jax.tree.structure(abstract), leaves), data_state)

    def _path(self, step: int) -> Path:
        return self.folder / f"{_PREFIX}{step:09d}"


def _named(state: TrainState) -> dict[str, Any]:
    """Return the leaves of a state by path, in its own order."""
    leaves, _ = jax.tree.flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
