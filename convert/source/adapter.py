"""A low-rank adapter (LoRA, in the files of Hugging Face's PEFT) merged into the weights that it was trained on."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath

import numpy as np

from convert.architecture.plain_lora import expect_plain
from convert.architecture.settings import CheckpointSettings
from convert.formats.archive import StoredTensor, open_archive
from convert.formats.names import shown
from convert.networks.companions import AdapterFolder
from convert.source.checkpoint_files import OpenedCheckpoint
from jax_interp.errors import CheckpointError

logger = logging.getLogger("jax_interp")

SETTINGS = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX, _DOWN, _UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, kw_only=True)
class MergedTensor(StoredTensor):
    """A weight [out, in] of a checkpoint and its adapter; `read` gives base + scale · up · down."""

    down: StoredTensor
    """The matrix A of the adapter, [rank, in]."""
    up: StoredTensor
    """The matrix B of the adapter, [out, rank]."""
    scale: float

    def read(self) -> np.ndarray:
        """Return the merged weight in float32 whatever `dtype` is, so that the sum is rounded once, by the caller."""
        product = self.up.read().astype(np.float32) @ self.down.read().astype(np.float32)
        product *= np.float32(self.scale)
        product += super().read()
        return product


def merge_adapter(
    adapter: AdapterFolder | None, opened: OpenedCheckpoint, checkpoint_dir: Path
) -> tuple[OpenedCheckpoint, dict[str, Path]]:
    """Return `opened` with the adapter merged into its tensors, and the adapter's files to be copied along.

    Nothing changes if `adapter` is not for the network in `opened.folder`, if it was merged before (its files are
    there), or if it is not in the checkpoint folder; then a warning says so.

    Raises:
        CheckpointError: the adapter is damaged, of another network, or of a kind that cannot be merged.
    """
    if adapter is None or opened.folder.name != adapter.base:
        return opened, {}
    if all((opened.folder / PurePosixPath(name).name).is_file() for name in adapter.copied.values()):
        return opened, {}
    folder = checkpoint_dir / adapter.folder
    if not folder.is_dir():
        logger.warning("%s: converted without its adapter, which is not in %s", opened.folder, folder)
        return opened, {}
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    missing = [name for name in (SETTINGS, *adapter.copied) if not (folder / name).is_file()]
    if path is None or missing:
        missing += [] if path else [" or ".join(WEIGHTS)]
        raise CheckpointError(f"{folder}: the adapter lacks {', '.join(missing)}; download it again")
    rank, alpha = _read_settings(folder, adapter.base)
    merged = _merge(opened.tensors, open_archive(path), rank, alpha / rank, path)
    logger.info("%s: %d weights merged with %s", opened.folder, len(merged), path)
    files = (*opened.files, path, folder / SETTINGS)
    copied = {target: folder / name for name, target in adapter.copied.items()}
    return replace(opened, tensors={**opened.tensors, **merged}, files=files), copied


def _read_settings(folder: Path, base: str) -> tuple[int, float]:
    """Return rank and alpha; everything else must be as in plain LoRA."""
    settings = CheckpointSettings.read(folder, (SETTINGS,))
    rank, alpha = expect_plain(settings)
    trained_on = settings.get("base_model_name_or_path", base)
    if not isinstance(trained_on, str) or PurePosixPath(trained_on).name != base:
        settings.fault("base_model_name_or_path", f"expected {base}")
    settings.check()
    return rank, alpha


def _merge(
    base: Mapping[str, StoredTensor], stored: Mapping[str, StoredTensor], rank: int, scale: float, path: Path
) -> dict[str, MergedTensor]:
    """Return the tensors of `base` that the adapter's pairs change."""
    modules = {key.removeprefix(_PREFIX).removesuffix(_DOWN).removesuffix(_UP) for key in stored}
    known = {_PREFIX + module + suffix for module in modules for suffix in (_DOWN, _UP)}
    faults = [f"{shown(key)} is not a weight of plain LoRA" for key in stored.keys() - known]
    faults += [f"{shown(key)} is missing" for key in known - stored.keys()]
    merged = {}
    for module in sorted(modules) if not faults else ():
        key, down, up = f"{module}.weight", stored[_PREFIX + module + _DOWN], stored[_PREFIX + module + _UP]
        tensor = base.get(key)
        shapes = ((rank, *tensor.shape[1:]), (*tensor.shape[:1], rank)) if tensor else None
        if tensor is None:
            faults.append(f"{shown(key)} is not in the network")
        elif len(tensor.shape) != 2 or (down.shape, up.shape) != shapes:
            faults.append(
                f"{shown(module)} has pairs {down.shape} and {up.shape} for a weight {tensor.shape} and rank {rank}"
            )
        else:
            known_of_base = {field.name: getattr(tensor, field.name) for field in fields(StoredTensor)}
            merged[key] = MergedTensor(**known_of_base, down=down, up=up, scale=scale)
    if faults or not merged:
        raise CheckpointError(
            f"{path}: not an adapter of this network: {'; '.join(sorted(faults)[:8]) or 'it is empty'}; download both"
            " again"
        )
    return merged
