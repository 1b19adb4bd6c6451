"""Declarative weight tables: which checkpoint key becomes which leaf of a Flax parameter tree."""

from dataclasses import dataclass

from convert.ops import Op, keep


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
