"""Finished pairs of an unfinished run on disk, so that an interrupted run goes on where it stopped."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jax_interp.files.atomic import write_atomically
from jax_interp.files.private_folder import check_private_folder


class PairStore:
    """A hidden folder beside the result, named after it and the run's fingerprint; it appears with the
    first thing that is kept: a prompt that was written, or a pair.

    A run with other settings, input or networks has a folder of its own and leaves this one alone.
    """

    def __init__(self, result: Path, fingerprint: str):
        self.folder = result.with_name(f".{result.stem}.{fingerprint[:12]}.unfinished")
        self._all_runs = re.compile(rf"\.{re.escape(result.stem)}\.[0-9a-f]{{12}}\.unfinished")

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

    def checked(self, index: int) -> dict[str, Any] | None:
        """What `save` was told with pair `index`."""
        with np.load(self._path(index), allow_pickle=False) as stored:
            return json.loads(str(stored["checked"]))

    def save(self, index: int, frames: UInt8[np.ndarray, "F Y X 3"], checked: Mapping[str, Any] | None = None) -> None:
        """Keep the frames of pair `index`; a pair is either stored whole or not at all.

        `checked` is what the guardrails have counted up to there, JSON values.
        """
        self._make_folder()
        partial = self.folder / "partial.npz"
        np.savez_compressed(partial, frames=frames, checked=json.dumps(checked))
        partial.replace(self._path(index))

    def keep_prompt(self, prompt: str) -> None:
        """Note the prompt that was written for this run."""
        self._make_folder()
        write_atomically(self._prompt, prompt.encode())

    def prompt(self) -> str | None:
        """The prompt that was written for this run before it was interrupted; None if there is none."""
        return self._prompt.read_text("utf-8") if self._prompt.exists() else None

    def claim(self, frames_folder: Path) -> None:
        """Note that this run's frames are complete and about to appear as `frames_folder`."""
        self._make_folder()
        write_atomically(self._claim, str(frames_folder.resolve()).encode())

    def claims(self, frames_folder: Path) -> bool:
        """Whether what is found as `frames_folder` is this run's own, which ended before all its results were there."""
        return self._claim.exists() and self._claim.read_text() == str(frames_folder.resolve())

    def note_results(self, results: Mapping[Path, Path]) -> None:
        """Note what is about to be renamed: `results` has the final path of each file or folder and its present one."""
        self._make_folder()
        found = {str(final.absolute()): _inode(present) for final, present in results.items()}
        write_atomically(self._results, json.dumps(found).encode())

    def own_results(self) -> list[Path]:
        """What is found under final names and was put there by this run, as far as it was noted before it ended."""
        try:
            noted = json.loads(self._results.read_bytes())
            return [Path(path) for path, inode in noted.items() if Path(path).exists() and _inode(Path(path)) == inode]
        except (OSError, ValueError, AttributeError):
            return []

    def others(self) -> list[Path]:
        """Folders that unfinished runs with other settings, input or networks have left of a result of that name."""
        folders = (path for path in self.folder.parent.iterdir() if self._all_runs.fullmatch(path.name))
        return sorted(path for path in folders if path != self.folder)

    def remove(self) -> None:
        """Delete the folder: the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def check_private(self) -> None:
        """Raise `OSError` if somebody else can put pairs there, which then were never checked."""
        check_private_folder(self.folder)

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def _results(self) -> Path:
        return self.folder / "results.json"

    @property
    def _prompt(self) -> Path:
        return self.folder / "prompt.txt"

    @property
    def _claim(self) -> Path:
        return self.folder / "frames_folder.txt"

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npz"


def _inode(path: Path) -> list[int]:
    """What tells a file or folder from others, also when it is renamed."""
    found = path.stat()
    return [found.st_dev, found.st_ino]
