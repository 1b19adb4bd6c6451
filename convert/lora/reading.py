"""Adapters of the transformer from files: PEFT's (ours too), diffusers', and upstream's with the base beside them."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convert.architecture.plain_lora import expect_plain
from convert.architecture.settings import CheckpointSettings
from convert.formats.archive import StoredTensor, open_archive
from convert.formats.safetensors_file import read_metadata
from convert.lora.keys import DIFFUSERS_LAYERS, AdapterKey, is_upstream, parse_peft, parse_upstream
from convert.networks.components import DIFFUSION_TRANSFORMER
from convert.source.checksums import checksum
from jax_interp.components import TransformerType
from jax_interp.errors import CheckpointError
from jax_interp.runtime.checkpoint.adapters import Adapter, LowRankPair
from jax_interp.runtime.checkpoint.finding import find_transformer
from jax_interp.types import Params

logger = logging.getLogger("jax_interp")

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
METADATA = "lora_adapter_metadata"
"""The metadata entry in which diffusers keeps PEFT's settings within the file of the weights."""


def read_adapters(
    files: Sequence[tuple[Path, float]],
    checkpoint_dir: Path,
    diffusion_transformer_dir: str | None = None,
    wanted: TransformerType = "WorldInterpolator",
) -> list[Adapter]:
    """Read the adapters in `files` (each with its strength), in order, for the transformer in `checkpoint_dir`.

    `wanted` is what that was trained for, which decides between several.

    Raises:
        CheckpointError: as `read_adapter`, or there is no such transformer.
    """
    if not files:
        return []
    found = find_transformer(checkpoint_dir, wanted, diffusion_transformer_dir)
    abstract = DIFFUSION_TRANSFORMER.abstract(found.config)
    return [read_adapter(path, strength, abstract) for path, strength in files]


def read_adapter(path: Path, strength: float, abstract: Params) -> Adapter:
    """Read the adapter in a file, or in a folder as PEFT saves it, for a network with parameters like `abstract`.

    Raises:
        CheckpointError: it is missing, damaged, of another network or not plain LoRA; every fault is named.
    """
    path = path / WEIGHTS if path.is_dir() else path
    tensors = open_archive(path)
    of_upstream = any(map(is_upstream, tensors))
    keys = {key: (parse_upstream if of_upstream else parse_peft)(key) for key in tensors}
    if of_upstream:  # the base network lies beside it
        keys = {key: parsed for key, parsed in keys.items() if is_upstream(key)}
    # upstream: a plain factor that its files do not state; the released experiments have 1.
    alpha = None if of_upstream else _alpha(path)
    pairs = _pairs(path, tensors, keys, alpha, abstract)
    _report_partial(path, pairs, _num_blocks(abstract))
    sums = checksum(path, lambda count: None, with_md5=False)
    return Adapter(path.name, sums.sha256, pairs, strength)


def _pairs(
    path: Path,
    tensors: Mapping[str, StoredTensor],
    keys: Mapping[str, AdapterKey | None],
    alpha: float | None,
    abstract: Params,
) -> dict[tuple[str, int], LowRankPair]:
    """Return every pair of matrices, read and checked against the weight that it changes."""
    faults = [f"{key} is not an adapter of a layer of this network" for key, parsed in keys.items() if parsed is None]
    sides: dict[tuple[str, int], dict[str, str]] = {}
    for key, parsed in keys.items():
        if parsed is not None:
            found = sides.setdefault((parsed.layer, parsed.block), {})
            faults += [f"{key} is there twice"] if parsed.side in found else []
            found[parsed.side] = key
    for (layer, block), found in sides.items():
        faults += _misfits(layer, block, {side: tensors[key].shape for side, key in found.items()}, abstract)
    if faults or not sides:
        shown = "; ".join(faults[:8]) + (f"; and {len(faults) - 8} more" if len(faults) > 8 else "")
        raise CheckpointError(
            f"{path}: not an adapter of this network: {shown or 'it is empty'}; pass one that was trained on it"
        )
    return {
        (f"blocks/{layer}/kernel", block): _read_pair(tensors[found["down"]], tensors[found["up"]], alpha)
        for (layer, block), found in sorted(sides.items())
    }


def _read_pair(down: StoredTensor, up: StoredTensor, alpha: float | None) -> LowRankPair:
    """Return both matrices in Flax's order of axes, with the scale in the second one."""
    scale = np.float32(1 if alpha is None else alpha / down.shape[0])
    pair = LowRankPair(down.read().T.astype(np.float32), up.read().T.astype(np.float32) * scale)
    for matrix, tensor in zip(pair, (down, up), strict=True):
        if not np.isfinite(matrix).all():
            raise CheckpointError(f"{tensor.source}: holds values that are not numbers; train or download it again")
    return pair


def _misfits(layer: str, block: int, shapes: Mapping[str, tuple[int, ...]], abstract: Params) -> list[str]:
    name = f"block {block}, {layer}"
    if len(shapes) < 2:
        return [f"{name} lacks its matrix {'up (B)' if 'down' in shapes else 'down (A)'}"]
    module, part = layer.split("/")
    blocks, inputs, outputs = abstract["blocks"][module][part]["kernel"].shape
    if block >= blocks:
        return [f"{name}: the network has {blocks} blocks"]
    down, up = shapes["down"], shapes["up"]
    if len(down) != 2 or (down[1:], up) != ((inputs,), (outputs, down[0])) or not down[0]:
        return [f"{name} has matrices {down} and {up}, expected (rank, {inputs}) and ({outputs}, rank)"]
    return []


def _alpha(path: Path) -> float | None:
    """Return `lora_alpha` of the settings within or beside the file; None, which means a scale of 1, without any."""
    settings = CheckpointSettings.find(path.parent, (SETTINGS,)) if path.name == WEIGHTS else None
    if settings is None and path.suffix == ".safetensors":
        settings = _within(path)
    if settings is None:
        return None
    _, alpha = expect_plain(settings)
    settings.check()
    return alpha


def _within(path: Path) -> CheckpointSettings | None:
    text = read_metadata(path).get(METADATA)
    if text is None:
        return None
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its {METADATA} is not JSON ({error}); it is damaged") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: its {METADATA} is no JSON object; it is damaged")
    return CheckpointSettings(path, {key.removeprefix("transformer."): value for key, value in values.items()})


def _report_partial(path: Path, pairs: Mapping[tuple[str, int], LowRankPair], num_blocks: int) -> None:
    """Say how many layers the adapter changes, and warn if it leaves blocks out."""
    layers = {weight for weight, _ in pairs}
    logger.info("%s: an adapter of %d layers (%d a block)", path, len(pairs), len(layers))
    if missing := len(layers) * num_blocks - len(pairs):
        logger.warning(
            "%s: leaves %d layers of some blocks as they are, though it changes them in others", path, missing
        )


def _num_blocks(abstract: Params) -> int:
    module, part = next(iter(DIFFUSERS_LAYERS)).split("/")
    return abstract["blocks"][module][part]["kernel"].shape[0]
