"""A converted folder back to upstream's layout: safetensors under upstream's key names, for converting or PyTorch."""

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from convert.formats.safetensors_writer import Entry, write_safetensors
from convert.mapping.matching import Leaf
from convert.networks.component import EXTRA_FOLDER, Component, WeightsFile
from convert.networks.components import COMPONENTS, named
from convert.progress import Advance, Progress, no_progress
from convert.target.folders import check_space, clear_leftovers, refuse_foreign_files, replace_atomically, writer_lock
from jax_interp.errors import CheckpointError
from jax_interp.nn.params import flatten
from jax_interp.runtime.checkpoint.converted import ConvertedComponent, open_component
from jax_interp.runtime.checkpoint.description import AGAIN, CONFIG_FILE, MANIFEST_FILE, PARAMS_FOLDER
from jax_interp.runtime.checkpoint.finding import scan
from jax_interp.runtime.checkpoint.loading import damage_reported
from jax_interp.runtime.checkpoint.param_files import open_array

logger = logging.getLogger("jax_interp")

SETTINGS_FILE = "config.json"
"""The file beside the weights that states what shapes do not tell, under Hugging Face's names."""


def export_checkpoints(
    converted_dir: Path,
    output_dir: Path,
    components: tuple[str, ...] = (),
    *,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> list[Path]:
    """Write every converted network below `converted_dir` (of the kinds `components`, or all) and return the folders.

    Dtypes stay as they are. Converting the result gives the same parameters and configuration, bit for bit.

    Raises:
        UsageError: a component does not exist, or a network is stored in 8 bits.
        CheckpointError: there is nothing to export, a network is incomplete or damaged, its target is there already, or
            the disk is or would be full.
    """
    chosen = _choose(converted_dir, components)
    for found in chosen:
        _check_arrays(found, COMPONENTS[found.component])
    targets = {found.path: output_dir / found.path.relative_to(converted_dir) for found in chosen}
    with writer_lock(output_dir):
        for target in targets.values():
            clear_leftovers(target)
        for found in chosen:
            if targets[found.path].exists():
                refuse_foreign_files(targets[found.path], _own_names(found))
        taken = [str(target) for target in targets.values() if target.exists()]
        if taken and not overwrite:
            raise CheckpointError(
                f"{', '.join(taken)}: there already; pass --overwrite to replace, or choose another --output-dir"
            )
        check_space(output_dir, sum(sum(found.manifest["files"].values()) for found in chosen))
        for found in chosen:
            _write(found, targets[found.path], progress)
    return list(targets.values())


def _choose(converted_dir: Path, components: tuple[str, ...]) -> list[ConvertedComponent]:
    names = [component.name for component in named(components)]
    found = [open_component(folder) for folder in scan(converted_dir)]
    chosen = [network for network in found if network.component in names]
    there = {network.component for network in chosen}
    missing = [name for name in names if name not in there] if components else []
    if missing or not chosen:
        raise CheckpointError(
            f"{converted_dir}: has no converted {', '.join(missing) or 'network'}; `jax-interp convert` makes one"
        )
    return chosen


def _write(found: ConvertedComponent, target: Path, progress: Progress) -> None:
    component = COMPONENTS[found.component]
    leaves = component.plan(found.config)
    total = sum(found.manifest["files"].values())
    with progress(f"exporting {target.name}", total) as advance, replace_atomically(target) as folder:
        entries = [entry for leaf in leaves for entry in _entries(found, leaf, advance)]
        for source in component.sources:
            write_safetensors(folder / source.exported, list(_of_source(entries, source)))
        if component.settings is not None:
            text = json.dumps(component.settings(found.config), indent=1)
            (folder / SETTINGS_FILE).write_text(text + "\n", "utf-8")
        extras = found.path / EXTRA_FOLDER
        for path in sorted(extras.iterdir()) if extras.is_dir() else ():
            shutil.copyfile(path, folder / path.name)
        if component.companion is not None and (found.path / component.companion.into).is_dir():
            shutil.copytree(found.path / component.companion.into, folder / component.companion.into)
    logger.info("%s: exported", target)


def _check_arrays(found: ConvertedComponent, component: Component) -> None:
    found.require_full("be exported")
    stored = {path: tuple(entry["shape"]) for path, entry in found.manifest["params"].items()}
    wanted = {path: tuple(leaf.shape) for path, leaf in flatten(component.abstract(found.config))}
    if stored != wanted:
        differing = sorted(path for path in stored.keys() | wanted.keys() if stored.get(path) != wanted.get(path))
        raise CheckpointError(
            f"{found.path / MANIFEST_FILE} (and {CONFIG_FILE}): does not fit this version's network"
            f" ({', '.join(differing)}); {AGAIN}"
        )


def _entries(found: ConvertedComponent, leaf: Leaf, advance: Advance) -> Iterator[Entry]:
    """Yield the tensors that `leaf` came from."""
    with damage_reported(found):
        array = open_array(found.path / PARAMS_FOLDER, leaf.path)
    dtype = array.dtype.numpy_dtype
    shape = leaf.op.inverse(np.broadcast_to(np.zeros((), dtype), leaf.part_shape)).shape

    def make(index: int | None) -> np.ndarray:
        with damage_reported(found):
            values = np.asarray(array.read().result() if index is None else array[index].read().result())
        advance(values.nbytes)
        return leaf.op.inverse(values)

    for index, key in enumerate(leaf.keys):
        yield Entry(key, shape, dtype, partial(make, index if leaf.stacked else None))


def _of_source(entries: Sequence[Entry], source: WeightsFile) -> Iterator[Entry]:
    """Yield the tensors that go to the file of `source`, under their names in it."""
    for entry in entries:
        if entry.key.startswith(source.keys):
            yield replace(entry, key=entry.key.removeprefix(source.prefix))


def _own_names(found: ConvertedComponent) -> set[str]:
    component = COMPONENTS[found.component]
    names = {source.exported for source in component.sources} | {*component.required_files, *component.optional_files}
    names |= {component.companion.into} if component.companion else set()
    return names | {SETTINGS_FILE} if component.settings else names
