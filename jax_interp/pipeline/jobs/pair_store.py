"""Finished pairs of an unfinished run on disk, so that an interrupted run goes on where it stopped."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jax_interp.files.atomic import open_atomically, write_atomically
from jax_interp.files.private_folder import check_private_folder
from jax_interp.media.output import reported

CLAIM = "placing.txt"
"""There from when on results may be under their names. Holds the path of the frames' folder, if there is one."""


def unfinished_runs(result: Path) -> list[Path]:
    """The folders of all unfinished runs, whatever their settings, of the video `result`."""
    own = re.compile(rf"\.{re.escape(result.stem)}\.[0-9a-f]{{12}}\.unfinished")
    return sorted(path for path in result.parent.iterdir() if own.fullmatch(path.name))


def is_being_placed(result: Path) -> bool:
    """Whether a run that did not come to its end had begun to put results in place, so that they may be of two runs."""
    return any((folder / CLAIM).exists() for folder in unfinished_runs(result))


class PairStore:
    """A hidden folder beside the result, named after it and the run's fingerprint; it appears with the
    first thing that is kept: a prompt that was written, or a pair.

    A run with other settings, input or networks has a folder of its own and leaves this one alone.
    """

    def __init__(self, result: Path, fingerprint: str):
        self.folder = result.with_name(f".{result.stem}.{fingerprint[:12]}.unfinished")
        self._result = result

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

        Raises:
            MediaError: the disk is full or does not answer; the pairs before stay.
        """
        with self._writing(self._path(index)), open_atomically(self._path(index)) as file:
            np.savez_compressed(file, frames=frames, checked=json.dumps(checked))

    def keep_prompt(self, prompt: str) -> None:
        """Note the prompt that was written for this run; raises as `save` does."""
        with self._writing(self._prompt):
            write_atomically(self._prompt, prompt.encode())

    def prompt(self) -> str | None:
        """The prompt that was written for this run before it was interrupted; None if there is none."""
        return self._prompt.read_text("utf-8") if self._prompt.exists() else None

    def claim(self, frames_folder: Path | None = None) -> None:
        """Note that all results are complete and about to appear, the frames as `frames_folder`; raises as `save` does.

        What is found under their names from then on is this program's, though the record is not there to say so.
        """
        with self._writing(self._claim):
            write_atomically(self._claim, b"" if frames_folder is None else os.fsencode(frames_folder.resolve()))

    def claims(self, frames_folder: Path) -> bool:
        """Whether what is found as `frames_folder` is this run's own, which ended before all its results were there."""
        return self._claim.exists() and self._claim.read_bytes() == os.fsencode(frames_folder.resolve())

    def note_results(self, results: Mapping[Path, Path]) -> None:
        """Note what is about to be renamed: `results` has the final path of each file or folder and its present one."""
        found = {str(final.absolute()): _inode(present) for final, present in results.items()}
        with self._writing(self._results):
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
        return [path for path in unfinished_runs(self._result) if path != self.folder]

    def take_over(self) -> None:
        """Withdraw the claims of the others: the results that are there now are this run's, all of them."""
        for other in self.others():
            with suppress(OSError):
                (other / CLAIM).unlink()

    def remove(self) -> None:
        """Delete the folder: the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def check_private(self) -> None:
        """Raise `OSError` if somebody else can put pairs there, which then were never checked."""
        check_private_folder(self.folder)

    @property
    def _results(self) -> Path:
        return self.folder / "results.json"

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        """Make the folder if need be, and report that `path` in it cannot be written."""
        with reported(path):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            yield

    @property
    def _prompt(self) -> Path:
        return self.folder / "prompt.txt"

    @property
    def _claim(self) -> Path:
        return self.folder / CLAIM

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npz"


def _inode(path: Path) -> list[int]:
    """What tells a file or folder from others, also when it is renamed."""
    found = path.stat()
    return [found.st_dev, found.st_ino]
