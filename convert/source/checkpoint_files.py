"""A network's files in a checkpoint folder: which ones they are and what is in them."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convert.formats.archive import INDEX_SUFFIX, StoredTensor, open_archive, select_state_dict
from convert.formats.locating import find_file
from convert.formats.names import shown
from convert.mapping.matching import Leaf, check_tensors
from convert.networks.component import Component, WeightsFile
from convert.source.wrappers import unwrapped, wrapper_of
from jax_interp.errors import CheckpointError

logger = logging.getLogger("jax_interp")

Weights = Literal["model", "ema"]


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A network's tensors by key, none of them read yet, and the files that hold them."""

    folder: Path
    tensors: Mapping[str, StoredTensor]
    files: tuple[Path, ...]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor by key."""
        return {key: tensor.shape for key, tensor in self.tensors.items()}

    def described(self) -> str:
        """Return the files by name, for messages."""
        return f"{self.folder} ({', '.join(file.name for file in self.files)})"


def locate(component: Component, folder: Path) -> dict[WeightsFile, Path]:
    """Find each file of weights of `component` in `folder`; files that are missing are left out."""
    found = {}
    for source in component.sources:
        if (path := next(_spelled(source, folder), None)) is not None:
            found[source] = path
    return found


def _spelled(source: WeightsFile, folder: Path) -> Iterator[Path]:
    """Yield the existing spellings of `source`, the preferred one first: a file before an index of several."""
    for name in source.names:
        for spelling in (name,) if name.endswith(INDEX_SUFFIX) else (name, name + INDEX_SUFFIX):
            if path := find_file(folder, spelling):
                yield path


def open_checkpoint(component: Component, folder: Path, weights: Weights | None) -> OpenedCheckpoint:
    """Open every file of `component` in `folder`.

    `weights` chooses between the two sets that a post-trained file holds; None takes its `model`, as upstream does.

    Raises:
        CheckpointError: a file is missing (all are named) or damaged, two files have the same key, or `weights` was
            asked for and there is no choice.
    """
    paths = locate(component, folder)
    missing = [" or ".join(source.names) for source in component.sources if source not in paths]
    hint = f" (of {component.origin_of_required})" if component.origin_of_required else ""
    missing += [name + hint for name in component.required_files if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder}: {component.name} lacks {'; '.join(missing)}. Download it, or name another folder with"
            f" {component.flag}"
        )
    tensors: dict[str, StoredTensor] = {}
    files: dict[Path, None] = {}
    for source, path in paths.items():
        files[path] = None
        _tell_others(source, folder, path)
        stored = open_archive(path)
        files.update(dict.fromkeys(tensor.stamp.path for tensor in stored.values()))
        chosen = _choose(source, stored, weights, path)
        for key, tensor in _unwrap(component, chosen, path).items():
            if source.prefix + key in tensors:
                raise CheckpointError(f"{path}: {shown(key)} also lies in another file of {folder}; remove one of them")
            tensors[source.prefix + key] = tensor
    return OpenedCheckpoint(folder, tensors, tuple(files))


def infer_network(component: Component, opened: OpenedCheckpoint) -> tuple[Any, tuple[Leaf, ...]]:
    """Return the network's configuration, and for each of its arrays the keys that it is made of.

    Raises:
        CheckpointError: the shapes are of no such network, or a key is unknown, missing or of a wrong shape.
    """
    config = component.infer(opened.shapes, opened.folder)
    leaves = component.plan(config, opened.tensors)
    check_tensors(leaves, component.table(opened.tensors).ignored, opened.tensors).check(opened.described())
    return config, leaves


def _tell_others(source: WeightsFile, folder: Path, chosen: Path) -> None:
    """Say so if there are several spellings of one file: they need not hold the same."""
    others = list(dict.fromkeys(str(path.relative_to(folder)) for path in _spelled(source, folder) if path != chosen))
    if others:
        logger.warning(
            "%s: %s is read; %s, which may hold other weights, is not",
            folder,
            chosen.relative_to(folder),
            " and ".join(others),
        )


def _unwrap(component: Component, tensors: dict[str, StoredTensor], path: Path) -> dict[str, StoredTensor]:
    own = wrapper_of([rule.src for rule in component.rules])
    found, outer = unwrapped(tensors, own, path)
    if outer != own:
        logger.info(
            "%s: its keys begin with %r, which a wrapper of PyTorch's has put there; read without it", path, outer
        )
    return found


def _choose(
    source: WeightsFile, stored: dict[str, StoredTensor], weights: Weights | None, path: Path
) -> dict[str, StoredTensor]:
    if not source.post_trained:
        return stored
    chosen = select_state_dict(stored, weights or "model")
    if weights is not None and chosen is stored:
        raise CheckpointError(f"{path}: holds one set of weights, not model and ema; leave --weights out")
    return chosen
