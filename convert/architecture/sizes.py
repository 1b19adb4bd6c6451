"""Sizes looked up in the shapes of a checkpoint's tensors."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from jax_interp.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of every tensor by checkpoint key."""


class Sizes:
    """Sizes of a network, looked up in the shapes of its tensors; what is missing is collected for `check`."""

    def __init__(self, shapes: Shapes, folder: Path):
        self._shapes = shapes
        self._folder = folder
        self._faults: list[str] = []

    def of(self, key: str, axes: int) -> tuple[int, ...]:
        """Return the shape of `key`, which must have `axes` axes, none of them empty."""
        shape = self._shapes.get(key)
        if shape is None:
            self._faults.append(f"{key} is missing")
        elif len(shape) != axes or 0 in shape:
            self._faults.append(f"{key} has shape {shape}, expected {axes} axes")
        else:
            return shape
        return (1,) * axes

    def values(self, key: str) -> int:
        """Return how many values `key` has."""
        if key not in self._shapes:
            self._faults.append(f"{key} is missing")
        return math.prod(self._shapes.get(key, (1,)))

    def count(self, pattern: str) -> int:
        """Count the layers whose keys `pattern` matches, `{}` standing for the number and `*` for any text.

        A stray key of a far-off number makes no layer: one counts from half as many keys as the fullest has.
        """
        keys = Counter(layers(self._shapes, pattern))
        if not keys:
            self._faults.append(f"no key looks like {pattern.format('0')}")
            return 1
        return 1 + max(layer for layer, number in keys.items() if 2 * number >= max(keys.values()))

    def quotient(self, whole: int, part: int, claim: str) -> int:
        """Return `whole / part`, which must be a whole number; `claim` says in the message what was expected."""
        if whole % part or not whole:
            raise CheckpointError(
                f"{self._folder}: expected that {claim}, but {whole} is not a multiple of {part}; weights or settings"
                " are damaged or of another network: download them again"
            )
        return whole // part

    def check(self) -> None:
        """Raise one `CheckpointError` that names everything that was not found."""
        if self._faults:
            raise CheckpointError(
                f"{self._folder}: the checkpoint does not tell the sizes of the network: {'; '.join(self._faults)}."
                " It is damaged or of another network: download it again, or name another folder"
            )


def layers(shapes: Shapes, pattern: str) -> Iterator[int]:
    """Return the layer number of every key that `pattern` matches; `{}` stands for the number, `*` for any text."""
    before, after = (re.escape(part) for part in pattern.removesuffix("*").split("{}"))
    expression = re.compile(f"{before}([0-9]{{1,4}}){after}.*")
    return (int(match[1]) for key in shapes if (match := expression.fullmatch(key)))
