"""The number of devices along each axis of a run's mesh, and the choice of the fastest mesh. Imports no JAX.

The axis `data` runs pairs (and guidance branches) in parallel, `sequence` splits the tokens of each, and `tensor`
splits heads and hidden units, and with them the weights.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

from jax_interp.errors import UsageError

AXES = ("data", "sequence", "tensor")
"""The axes, from outermost to innermost: neighbours along `tensor` exchange most, and so are next to each other."""


@dataclass(frozen=True)
class MeshShape:
    """The number of devices along each axis, for example `MeshShape(data=2, sequence=2)` for four devices."""

    data: int = 1
    sequence: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        for axis in fields(self):
            if getattr(self, axis.name) < 1:
                raise UsageError(f"mesh axis {axis.name} is {getattr(self, axis.name)}; expected 1 or more")

    @classmethod
    def parse(cls, text: str) -> "MeshShape":
        """Parse a text such as `data=2,sequence=2`; axes that are not named have one device.

        Raises:
            UsageError: `text` has another form.
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
        """The number of devices in all."""
        return self.data * self.sequence * self.tensor

    def along(self, axes: Iterable[str]) -> int:
        """Return the number of devices along several axes together."""
        return math.prod(getattr(self, axis) for axis in axes)

    def pairs_at_once(self, branches: int) -> int:
        """Return the smallest number of pairs that fill the `data` axis, each evaluated in `branches` branches."""
        return self.data // math.gcd(self.data, branches)

    def __str__(self) -> str:
        return ",".join(f"{axis}={getattr(self, axis)}" for axis in AXES)


ALONE = MeshShape()


def shapes(num_devices: int) -> Iterator[MeshShape]:
    """Yield every mesh of `num_devices` that does not split weights; those with most pairs in parallel come first."""
    for data in range(num_devices, 0, -1):
        if num_devices % data == 0:
            yield MeshShape(data, num_devices // data)


SPLIT_COST = 0.04
"""The cost of splitting the tokens of an evaluation, in evaluations by a single device: exchanges, and work that every
device repeats. For 7B on four H200 it is 88 ms, where a quarter of one device's 305 ms would be 76."""


def fastest_shape(num_devices: int, pair_counts: Sequence[int], branches: int) -> MeshShape:
    """Return the mesh that finishes first with clips of `pair_counts` pairs, one after the other.

    Running pairs in parallel costs nothing but leaves devices idle where there are fewer pairs (times `branches`) than
    places; splitting tokens keeps all devices busy. Weights are never split: `sharded` and `streamed` placements save
    memory at a lower cost.
    """

    def seconds(shape: MeshShape) -> float:
        together = shape.pairs_at_once(branches)
        passes = sum(-(-count // together) for count in pair_counts)
        step = 1 / shape.sequence + (SPLIT_COST if shape.sequence > 1 else 0)
        return passes * together * branches / shape.data * step

    return min(shapes(num_devices), key=seconds)
