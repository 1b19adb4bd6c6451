"""Finished pairs of an unfinished run on disk, so that an interrupted run goes on where it stopped."""

import json
import shutil
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

_IDENTITY = "run.json"


class PairStore:
    """A folder of finished pairs that belong to one run, told apart by `fingerprint`.

    A folder left by a different run (other settings, input or networks) is emptied when opened.
    """

    def __init__(self, folder: Path, fingerprint: str):
        self.folder = folder
        identity = folder / _IDENTITY
        if folder.exists() and not _matches(identity, fingerprint):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        identity.write_text(json.dumps({"fingerprint": fingerprint}))

    def finished(self) -> int:
        """How many pairs, counted from the first without a gap, are stored."""
        count = 0
        while self._path(count).exists():
            count += 1
        return count

    def load(self, index: int) -> UInt8[np.ndarray, "F Y X 3"]:
        """The frames of pair `index`."""
        with np.load(self._path(index), allow_pickle=False) as stored:
            return stored["frames"]

    def save(self, index: int, frames: UInt8[np.ndarray, "F Y X 3"]) -> None:
        """Keep the frames of pair `index`; a pair is either stored whole or not at all."""
        partial = self.folder / "partial.npz"
        np.savez_compressed(partial, frames=frames)
        partial.replace(self._path(index))

    def remove(self) -> None:
        """Delete the folder: the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npz"


def _matches(identity: Path, fingerprint: str) -> bool:
    try:
        return json.loads(identity.read_text()).get("fingerprint") == fingerprint
    except (OSError, ValueError, AttributeError):
        return False
