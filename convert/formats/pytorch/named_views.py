"""State-dict names of the tensors that a pickle described."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convert.formats.limits import MAX_DEPTH, MAX_NAME, MAX_NAME_LETTERS, MAX_TENSORS, MAX_VALUES
from convert.formats.names import shown
from convert.formats.pytorch.pickle_globals import ModuleRecord, Opaque, TensorView
from jax_interp.errors import CheckpointError


def named_views(content: Any, file: str) -> dict[str, TensorView]:
    """Return the tensors that the pickle of `file` described, by state-dict name.

    Raises:
        CheckpointError: there are none, there is something that is neither a tensor, a number nor a container, or
            more than `convert.formats.limits` allows.
    """
    names = _Names(file)
    names.collect(content, "")
    if not names.found:
        raise CheckpointError(
            f"{file}: holds no tensors. A frozen TorchScript module keeps its weights without names:"
            " use the file from before torch.jit.freeze, or its state_dict()"
        )
    return names.found


@dataclass
class _Names:
    """Walks what a pickle described and gives every tensor its state-dict name."""

    file: str
    found: dict[str, TensorView] = field(default_factory=dict)
    visited: int = 0
    letters: int = 0
    parents: list[int] = field(default_factory=list)

    def collect(self, value: Any, key: str) -> None:
        """Add the tensors in `value`, which has the name `key`, to `found`."""
        self._count(1)
        if len(key) > MAX_NAME:
            self._refuse(f"a value whose name has more than {MAX_NAME} letters")
        if isinstance(value, TensorView):
            self._add(value, key or "0")
        elif isinstance(value, ModuleRecord):
            self._count(len(value.attributes))
            members = value.attributes.items()
            self._descend(value, key, (item for item in members if isinstance(item[1], TensorView | ModuleRecord)))
        elif isinstance(value, dict):
            self._descend(value, key, value.items())
        elif isinstance(value, list | tuple):
            self._descend(value, key, ((str(index), member) for index, member in enumerate(value)))
        elif not _is_ignorable(value, key):
            kind = value.kind if isinstance(value, Opaque) else type(value).__name__
            raise CheckpointError(
                f"{self.file}: {shown(key) or 'its content'} is neither a tensor, a number nor a container but {kind}"
            )

    def _add(self, view: TensorView, key: str) -> None:
        if key in self.found:
            raise CheckpointError(f"{self.file}: two tensors have the name {shown(key)}")
        self._count(len(view.shape))
        self.letters += len(key)
        if len(self.found) == MAX_TENSORS:
            self._refuse(f"more than {MAX_TENSORS:,} tensors")
        if self.letters > MAX_NAME_LETTERS:
            self._refuse(f"tensors whose names have more than {MAX_NAME_LETTERS:,} letters together")
        self.found[key] = view

    def _descend(self, container: Any, key: str, members: Iterable[tuple[str, Any]]) -> None:
        if id(container) in self.parents or len(self.parents) >= MAX_DEPTH:
            raise CheckpointError(
                f"{self.file}: {shown(key)} contains itself or is nested deeper than {MAX_DEPTH} levels"
            )
        self.parents.append(id(container))
        for name, member in members:
            self.collect(member, f"{key}.{name}" if key else str(name))
        self.parents.pop()

    def _count(self, values: int) -> None:
        self.visited += values
        if self.visited > MAX_VALUES:
            self._refuse(f"more than {MAX_VALUES} values")

    def _refuse(self, what: str) -> None:
        raise CheckpointError(f"{self.file}: describes {what}, the most that is read; that is no state dict")


def _is_ignorable(value: Any, key: str) -> bool:
    """Tell whether a value is no weight: numbers, text, dtypes, and Transformer Engine's bytes below `_extra_state`."""
    if isinstance(value, Opaque):
        return any(part.endswith("_extra_state") for part in key.split("."))
    return value is None or isinstance(value, str | int | float | np.dtype)
