"""The application of weight tables: every checkpoint key gets its place in the parameter tree, or one message names
every fault."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from typing import Protocol

import numpy as np

from convert.formats.names import shown
from convert.mapping.ops import Op
from convert.mapping.rules import Ignored, Rule
from jax_interp.errors import CheckpointError
from jax_interp.nn.params import flatten
from jax_interp.types import Params

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_NUMBER = "0|[1-9][0-9]*"

_LISTED = 1000
"""How many faults of one kind are listed: no network has as many keys, but a file of something else can."""


class Tensor(Protocol):
    """A checkpoint tensor before it is read: its shape and dtype.

    `convert.formats.stored_tensor.StoredTensor` is one, and so is `jax.ShapeDtypeStruct((2, 3), jnp.float32)`.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...


@dataclass(frozen=True)
class Leaf:
    """An array of the parameter tree and the checkpoint keys that it is made of: one a layer for a stack, else one."""

    path: str
    shape: tuple[int, ...]
    keys: tuple[str, ...]
    op: Op
    pattern: str
    """`src` of the rule with the placeholders of `dst` filled in, which stands for all keys of a stack."""
    stacked: bool

    @property
    def part_shape(self) -> tuple[int, ...]:
        """The shape of what the tensor of one key becomes."""
        return self.shape[1:] if self.stacked else self.shape


@dataclass
class Report:
    """The report of everything in which a checkpoint differs from what its table and network expect."""

    unknown: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)

    def check(self, files: str) -> None:
        """Raise `CheckpointError` naming `files` and every fault, if there is any."""
        sections = {
            "keys that no rule knows": self.unknown,
            "keys that two rules claim": self.doubled,
            "missing keys": self.missing,
            "tensors of a wrong shape or dtype": self.misshapen,
        }
        lines = [_listed(title, faults) for title, faults in sections.items() if faults]
        if lines:
            raise CheckpointError(
                f"{files}: not the checkpoint of the network that its own shapes describe; it is damaged, of another"
                " model, or newer than this program:\n" + "\n".join(lines)
            )


def _listed(title: str, faults: Sequence[str]) -> str:
    more = f"\n    and {len(faults) - _LISTED:,} more" if len(faults) > _LISTED else ""
    return f"  {title} ({len(faults)}):" + "".join(f"\n    {fault}" for fault in faults[:_LISTED]) + more


def plan_leaves(rules: Sequence[Rule], abstract: Params) -> tuple[Leaf, ...]:
    """Return for each array of `abstract` the checkpoint keys that it is made of (on export: that it is written to).

    Raises:
        ValueError: the table is wrong: an array with no rule or with two, or a rule with more than one layer number.
    """
    return tuple(_plan_leaf(rules, path, tuple(leaf.shape)) for path, leaf in flatten(abstract))


def check_tensors(leaves: Sequence[Leaf], ignored: Sequence[Ignored], tensors: Mapping[str, Tensor]) -> Report:
    """Compare a checkpoint's keys and shapes with `leaves`; no tensor is read, ops get arrays without memory."""
    claims: dict[str, list[str]] = {key: [] for leaf in leaves for key in leaf.keys}
    for leaf in leaves:
        for key in leaf.keys:
            claims[key].append(leaf.path)
    for key in tensors:
        claims.setdefault(key, []).extend(
            f"ignored as {entry.pattern}" for entry in ignored if fnmatchcase(key, entry.pattern)
        )
    return Report(
        unknown=[f"{shown(key)}: {_describe(tensors[key])}" for key in tensors if not claims[key]],
        doubled=[f"{shown(key)}: {' and '.join(names)}" for key, names in claims.items() if len(names) > 1],
        missing=[f"{key} (for {leaf.path})" for leaf in leaves for key in leaf.keys if key not in tensors],
        misshapen=[fault for leaf in leaves for fault in _misshapen(leaf, tensors)],
    )


def _plan_leaf(rules: Sequence[Rule], path: str, shape: tuple[int, ...]) -> Leaf:
    found = [(rule, match) for rule in rules if (match := _expression(rule.dst).fullmatch(path))]
    if len(found) != 1:
        raise ValueError(f"{path}: {len(found)} rules make it, expected 1: {[rule.src for rule, _ in found]}")
    rule, match = found[0]
    pattern = _fill(rule.src, match.groupdict())
    layers = set(_PLACEHOLDER.findall(pattern))
    if len(layers) > 1:
        raise ValueError(f"{rule.src}: {sorted(layers)} are not in {rule.dst}; at most one can count layers")
    if not layers:
        return Leaf(path, shape, (pattern,), rule.op, pattern, stacked=False)
    if not shape:
        raise ValueError(f"{path}: a stack of layers, but the network's array has no axes")
    (layer,) = layers
    keys = tuple(_fill(pattern, {layer: str(index)}) for index in range(shape[0]))
    return Leaf(path, shape, keys, rule.op, pattern, stacked=True)


def _fill(template: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), template)


@cache
def _expression(template: str) -> re.Pattern[str]:
    """Return `template` as a regular expression; a placeholder that comes again must have the same number."""
    return re.compile("".join(_pieces(template)))


def _pieces(template: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, part in enumerate(_PLACEHOLDER.split(template)):
        if index % 2 == 0:
            yield re.escape(part)
        elif part in seen:
            yield f"(?P={part})"
        else:
            seen.add(part)
            yield f"(?P<{part}>{_NUMBER})"


def _misshapen(leaf: Leaf, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    present = [key for key in leaf.keys if key in tensors]
    for key in present:
        tensor, first = tensors[key], tensors[present[0]]
        if _shape_after(leaf.op.forward, tensor.shape) != leaf.part_shape:
            expected = _shape_after(leaf.op.inverse, leaf.part_shape)
            yield f"{key}: {_describe(tensor)}, expected {expected} (for {leaf.path})"
        elif tensor.dtype != first.dtype:
            yield f"{key}: {tensor.dtype}, but {present[0]} of the same stack is {first.dtype}"


def _shape_after(change: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape that `change` makes of `shape`, None if it cannot be applied."""
    try:
        return change(np.broadcast_to(np.zeros((), np.uint8), shape)).shape
    except (ValueError, IndexError):
        return None


def _describe(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"
