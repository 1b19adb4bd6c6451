"""The folder of a training run: whose it is, and how much of the run stays in it. Imports no JAX."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jax_interp.errors import CheckpointError, UsageError
from jax_interp.files.atomic import write_atomically

RUN_FILE = "run.json"


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The folder of a training run, and how many checkpoints it keeps."""

    path: Path
    keep: int = 2
    """The number of checkpoints that are kept."""
    save_every: int = 500
    """The number of steps from one checkpoint to the next."""
    preview_every: int = 0
    """The number of steps from one preview to the next; 0 means none."""

    def __post_init__(self) -> None:
        faults = []
        if self.keep < 1:
            faults.append(f"--keep is {self.keep}; expected 1 or more")
        if self.save_every < 1:
            faults.append(f"--save-every is {self.save_every}; expected 1 or more")
        if self.preview_every < 0:
            faults.append(f"--preview-every is {self.preview_every}; expected 0 (never) or more")
        if faults:
            raise UsageError("; ".join(faults))

    def claim(self, identity: Mapping[str, Any], *, resume: bool) -> None:
        """Claim the folder for this run, or check that it already belongs to it.

        Raises:
            UsageError: a run is there and `resume` is false, none is there and `resume` is true, or it is another run.
        """
        file = self.path / RUN_FILE
        if file.exists():
            theirs = _read_identity(file)
            differing = sorted(key for key in identity.keys() | theirs.keys() if identity.get(key) != theirs.get(key))
            if differing:
                raise UsageError(
                    f"{self.path}: holds another run (it differs in {', '.join(differing)}); choose another"
                    " --output-dir, or repeat the options of that run"
                )
            if not resume:
                raise UsageError(f"{self.path}: this run has begun already; pass --resume to go on with it")
            return
        if resume:
            raise UsageError(f"{self.path}: has no run to go on with; leave --resume out to begin one")
        if self.path.exists() and any(not _is_of_a_writer(path.name) for path in self.path.iterdir()):
            raise UsageError(f"{self.path}: is there already and is no training run; choose another --output-dir")
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(file, (json.dumps(identity, indent=1) + "\n").encode())


def _read_identity(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: damaged ({error}); choose another --output-dir") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: damaged; choose another --output-dir")
    return values


def _is_of_a_writer(name: str) -> bool:
    """Tell whether a file only belongs to a writer of the folder: a hidden lock, or an unfinished file."""
    return name.endswith(".part") or (name.startswith(".") and name.endswith(".lock"))
