"""Names that PyTorch's wrappers of modules put into those of a checkpoint, taken out again."""

import re
from collections.abc import Mapping
from pathlib import Path

from convert.formats.archive import StoredTensor
from convert.formats.names import shown
from jax_interp.errors import CheckpointError

_OUTER = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")
"""Prefixes of a wrapped network's keys: `DataParallel` and its successors, `torch.compile`, `FSDP`."""

_INNER = re.compile(r"(?<=\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""The infix of the keys of a wrapped part of a network; no network gives a part such a name itself."""


def unwrapped(tensors: Mapping[str, StoredTensor], own: str, path: Path) -> tuple[dict[str, StoredTensor], str]:
    """Return the tensors of `path` under the names of the network without its wrappers, and the prefix they all had.

    `module._orig_mod.net.norm.weight` becomes `net.norm.weight` if every key begins so; `net._orig_mod.norm.weight`
    does in any case. `own` is the wrapper's name that the published file has itself: it is there afterwards, whether or
    not it was before.

    Raises:
        CheckpointError: two keys become one.
    """
    outer = ""
    while prefix := next((p for p in _OUTER if tensors and all(_goes_on(key, outer + p) for key in tensors)), ""):
        outer += prefix
    found: dict[str, StoredTensor] = {}
    for key, tensor in tensors.items():
        name = own + _INNER.sub("", key.removeprefix(outer))
        if name in found:
            raise CheckpointError(f"{path}: two tensors have the name {shown(name)} without what wrappers added to it")
        found[name] = tensor
    return found, outer


def wrapper_of(keys: list[str]) -> str:
    """Return the name of a wrapper that all `keys` begin with; empty if there is none."""
    return next((prefix for prefix in _OUTER if keys and all(key.startswith(prefix) for key in keys)), "")


def _goes_on(key: str, beginning: str) -> bool:
    return key.startswith(beginning) and len(key) > len(beginning)
