"""What a training run is asked for, as one frozen value that is checked before anything is loaded. Imports no JAX."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.train.data.windows import WindowSettings
from jax_interp.train.runs.folder import RunFolder
from jax_interp.train.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """Everything that a training run is asked for."""

    data: Path
    folder: RunFolder
    settings: TrainSettings
    windows: WindowSettings
    height: int
    width: int
    cache: Path | None
    held_out: str | None
    resume: bool
    checkpoint_dir: Path
    folders: Mapping[str, str | None]
    """Which converted networks, by component."""
    text_embeddings: Path | None
    mesh: MeshShape
