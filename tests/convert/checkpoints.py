"""Checkpoint folders for the tests of conversion: the golden ones, whole or with some tensors changed."""

import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from convert.formats.archive import open_archive
from convert.formats.safetensors_writer import Entry, write_safetensors
from tests import golden

DIT = "Cosmos-Predict1-7B-WorldInterpolator"
TOKENIZER = "Cosmos-Tokenize1-CV8x8x8-720p"
T5 = "google-t5/t5-11b"


def copy_golden(root: Path, *names: str) -> Path:
    """A checkpoint folder with the golden networks of these names."""
    for name in names:
        shutil.copytree(golden.CHECKPOINTS / name, root / name)
    return root


@cache
def dit_tensors() -> Mapping[str, np.ndarray]:
    """Every tensor of the golden transformer."""
    return {key: tensor.read() for key, tensor in open_archive(golden.CHECKPOINTS / DIT / "model.pt").items()}


def write_dit(root: Path, changes: Mapping[str, np.ndarray | None] | None = None, name: str = DIT) -> Path:
    """A checkpoint folder with the golden transformer as safetensors; None takes a tensor away."""
    tensors = {**dit_tensors(), **(changes or {})}
    (root / name).mkdir(parents=True, exist_ok=True)
    path = root / name / "model.safetensors"
    path.unlink(missing_ok=True)
    write_tensors(path, {key: tensor for key, tensor in tensors.items() if tensor is not None})
    return root


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """A safetensors file of arrays."""
    write_safetensors(path, [Entry(key, t.shape, t.dtype, lambda t=t: t) for key, t in tensors.items()])


def everything_below(folder: Path) -> dict[str, bytes]:
    """Content of every file, hidden ones included, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
