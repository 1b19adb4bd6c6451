"""How many devices a run has along each axis of its mesh, and which division is the fastest. Imports no JAX.

`data` runs pairs (and guidance branches) side by side, `sequence` splits the tokens of each, `tensor` splits heads and
hidden units, and with them the weights.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

from jax_interp.errors import UsageError

AXES = ("data", "sequence", "tensor")
"""Slowest first: neighbours along `tensor` exchange most, and sit next to each other."""


@dataclass(frozen=True)
class MeshShape:
    """How many devices there are along each axis."""

    data: int = 1
    sequence: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        for axis in fields(self):
            if getattr(self, axis.name) < 1:
                raise UsageError(f"mesh axis {axis.name} is {getattr(self, axis.name)}; expected 1 or more")

    @classmethod
    def parse(cls, text: str) -> "MeshShape":
        """`data=2,sequence=2`; axes that are not named have one device.

        Raises:
            UsageError: it is something else.
        """
        sizes: dict[str, int] = {}
        for entry in text.split(","):
            axis, _, size = (part.strip() for part in entry.partition("="))
            if axis not in AXES or axis in sizes or not size.isdecimal():
                raise UsageError(f"--mesh {text}: expected sizes of {', '.join(AXES)}, as in data=2,sequence=2")
            sizes[axis] = int(size)
        return cls(**sizes)

    @property
    def size(self) -> int:
        """Devices in all."""
        return self.data * self.sequence * self.tensor

    def along(self, axes: Iterable[str]) -> int:
        """Devices along several axes together."""
        return math.prod(getattr(self, axis) for axis in axes)

    def pairs_at_once(self, branches: int) -> int:
        """Fewest pairs that fill the `data` axis, each evaluated in `branches` branches."""
        return self.data // math.gcd(self.data, branches)

    def __str__(self) -> str:
        return ",".join(f"{axis}={getattr(self, axis)}" for axis in AXES)


ALONE = MeshShape()


def shapes(num_devices: int) -> Iterator[MeshShape]:
    """Every mesh of `num_devices` that does not split weights, pairs side by side first."""
    for data in range(num_devices, 0, -1):
        if num_devices % data == 0:
            yield MeshShape(data, num_devices // data)


SPLIT_COST = 0.04
"""What splitting the tokens of an evaluation costs, in evaluations by a single device: exchanges, and work that every
device repeats. 7B on four H200: 88 ms, a quarter of the 305 ms of one being 76."""


def fastest_shape(num_devices: int, pair_counts: Sequence[int], branches: int) -> MeshShape:
    """The mesh that is through first with clips of `pair_counts` pairs, one after the other.

    Side by side costs nothing but leaves devices idle where there are fewer pairs (times `branches`) than places;
    splitting keeps all of them busy. Never splits weights: `sharded` and `streamed` placements spare memory for less.
    """

    def seconds(shape: MeshShape) -> float:
        together = shape.pairs_at_once(branches)
        passes = sum(-(-count // together) for count in pair_counts)
        step = 1 / shape.sequence + (SPLIT_COST if shape.sequence > 1 else 0)
        return passes * together * branches / shape.data * step

    return min(shapes(num_devices), key=seconds)
