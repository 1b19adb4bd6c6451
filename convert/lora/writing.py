"""Adapters to files under PEFT's names, which PEFT and diffusers read on diffusers' own network."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convert.formats.safetensors_writer import Entry, write_safetensors
from convert.lora.keys import DIFFUSERS_LAYERS, peft_key
from convert.lora.reading import METADATA, SETTINGS, WEIGHTS
from jax_interp.nn.low_rank import DOWN, UP
from jax_interp.nn.params import flatten
from jax_interp.types import Params


def write_adapter(folder: Path, adapter: Params, *, rank: int, scale: float) -> None:
    """Write the arrays of an adapter, a tree with `lora_down` and `lora_up` under `blocks`, into an existing folder.

    It gets `adapter_model.safetensors`, which also holds its settings, and `adapter_config.json`.
    """
    leaves = {path.removeprefix("blocks/"): np.asarray(leaf) for path, leaf in flatten(adapter)}
    layers = sorted({path.rpartition("/")[0] for path in leaves}, key=list(DIFFUSERS_LAYERS).index)
    settings = _settings(layers, rank, scale)
    entries = [
        _entry(peft_key(layer, block, "down" if name == DOWN else "up"), leaves[f"{layer}/{name}"], block)
        for layer in layers
        for block in range(len(leaves[f"{layer}/{DOWN}"]))
        for name in (DOWN, UP)
    ]
    text = json.dumps(settings, indent=2, sort_keys=True)
    write_safetensors(folder / WEIGHTS, entries, {METADATA: text})
    (folder / SETTINGS).write_text(text + "\n", "utf-8")


def _settings(layers: list[str], rank: int, scale: float) -> Mapping[str, Any]:
    alpha = scale * rank
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "target_modules": [DIFFUSERS_LAYERS[layer] for layer in layers],
        "bias": "none",
        "lora_dropout": 0.0,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _entry(key: str, stacked: np.ndarray, block: int) -> Entry:
    return Entry(key, stacked.shape[:0:-1], stacked.dtype, partial(_matrix, stacked, block))


def _matrix(stacked: np.ndarray, block: int) -> np.ndarray:
    """Return the matrix of one block, in PyTorch's order of axes."""
    return stacked[block].T
