"""Declarative weight tables: which checkpoint key becomes which leaf of a Flax parameter tree."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from convert.mapping.ops import Op, keep


@dataclass(frozen=True)
class Rule:
    """One line of a weight table.

    `src` is a checkpoint key matched in full, in which `{name}` stands for a whole number. A placeholder that `dst`
    repeats is put there; the one that it does not repeat counts layers, whose tensors are stacked along a new leading
    axis: `Rule("net.blocks.block{layer}.mlp.weight", "blocks/mlp/kernel", transpose)`.
    `dst` is a path of the parameter tree, `op` the change of layout of each single tensor.
    """

    src: str
    dst: str
    op: Op = keep


@dataclass(frozen=True)
class Ignored:
    """Checkpoint keys that no network reads: `pattern` is matched in full, `*` standing for any text."""

    pattern: str
    reason: str


@dataclass(frozen=True)
class Table:
    """The weight table of one kind of checkpoint, for a network that is published in several kinds."""

    mark: str
    """A prefix that some keys of this kind have, and no key of another kind."""
    rules: Callable[[Any], tuple[Rule, ...]]
    """A function from a network's configuration to its rules."""
    ignored: tuple[Ignored, ...] = ()


def find_table(tables: Iterable[Table], keys: Collection[str]) -> Table | None:
    """Return the table of the kind of checkpoint that has `keys`; None if no table's mark is among them."""
    return next((table for table in tables if any(key.startswith(table.mark) for key in keys)), None)
