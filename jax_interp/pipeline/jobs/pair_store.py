"""Finished pairs of an unfinished run on disk, so that an interrupted run goes on where it stopped."""

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jax_interp.errors import MediaError
from jax_interp.files.atomic import write_atomically
from jax_interp.files.json_file import parse_json
from jax_interp.files.json_schema import decode

logger = logging.getLogger("jax_interp")

_MOST_PROMPT_BYTES = 1 << 20


class PairStore:
    """A hidden folder beside the result, named after it and the run's fingerprint; it appears with the
    first thing that is kept: a prompt that was written, or a pair.

    A run with other settings, input or networks has a folder of its own and leaves this one alone. What is damaged is
    named in a warning and made again, with all pairs behind it; everything in here can be.
    """

    def __init__(self, result: Path, fingerprint: str):
        self.folder = result.with_name(f".{result.stem}.{fingerprint[:12]}.unfinished")
        self._all_runs = re.compile(rf"\.{re.escape(result.stem)}\.[0-9a-f]{{12}}\.unfinished")

    def finished(self, most: int | None = None, shape: tuple[int, ...] | None = None) -> int:
        """How many pairs, counted from the first without a gap, are stored and whole; it looks at `most` of them.

        `shape` is what the frames of a pair have to have. All are read: how many pairs are made anew is settled, and
        told to other processes, before the first one is used.

        Raises:
            MediaError: the folder or a pair is none of this program's making, and in the way.
        """
        if not self.folder.is_dir() and os.path.lexists(self.folder):
            raise MediaError(f"{self.folder}: is in the way of this run's finished pairs; remove it")
        count = 0
        while count != most and self._path(count).exists() and self._is_whole(count, shape):
            count += 1
        return count

    def load(self, index: int) -> UInt8[np.ndarray, "F Y X 3"]:
        """The frames of pair `index`, one of those that are `finished`."""
        with np.load(self._path(index), allow_pickle=False) as stored:
            return stored["frames"]

    def checked(self, index: int) -> dict[str, Any] | None:
        """What `save` was told with pair `index`."""
        with np.load(self._path(index), allow_pickle=False) as stored:
            facts = parse_json(str(stored["checked"]))
        return None if facts is None else decode(dict[str, Any], facts)

    def save(self, index: int, frames: UInt8[np.ndarray, "F Y X 3"], checked: Mapping[str, Any] | None = None) -> None:
        """Keep the frames of pair `index`; a pair is either stored whole or not at all.

        `checked` is what the guardrails have counted up to there, JSON values.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / "partial.npz"
        np.savez_compressed(partial, frames=frames, checked=json.dumps(checked))
        partial.replace(self._path(index))

    def keep_prompt(self, prompt: str) -> None:
        """Note the prompt that was written for this run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._prompt, prompt.encode())

    def prompt(self) -> str | None:
        """The prompt that was written for this run before it was interrupted; None if there is none.

        A prompt that cannot be read any more is written again, perhaps with other words: the store is removed, since
        its pairs would not go with that.

        Raises:
            MediaError: it cannot be removed.
        """
        try:
            if not self._prompt.is_file():
                fault = "there is no such file" if self._path(0).exists() else None
            elif self._prompt.stat().st_size > _MOST_PROMPT_BYTES:
                fault = f"it is larger than {_MOST_PROMPT_BYTES} bytes"
            elif prompt := self._prompt.read_text("utf-8"):
                return prompt
            else:
                fault = "it is empty"
        except (OSError, UnicodeDecodeError) as error:
            fault = str(error)
        if fault is not None:
            logger.warning("%s: damaged (%s); the prompt and all pairs are made again", self._prompt, fault)
            self.remove()
            if self.folder.exists():
                raise MediaError(f"{self.folder}: damaged, and cannot be removed; remove it")
        return None

    def claim(self, frames_folder: Path) -> None:
        """Note that this run's frames are complete and about to appear as `frames_folder`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._claim, os.fsencode(frames_folder.resolve()))

    def claims(self, frames_folder: Path) -> bool:
        """Whether what is found as `frames_folder` is this run's own, which ended before all its results were there."""
        try:
            return self._claim.read_bytes() == os.fsencode(frames_folder.resolve())
        except OSError:
            return False

    def others(self) -> list[Path]:
        """Folders that unfinished runs with other settings, input or networks have left of a result of that name."""
        folders = (path for path in self.folder.parent.iterdir() if self._all_runs.fullmatch(path.name))
        return sorted(path for path in folders if path != self.folder)

    def remove(self) -> None:
        """Delete the folder: the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_whole(self, index: int, shape: tuple[int, ...] | None) -> bool:
        """Whether pair `index` can be read, to its last byte; says what is wrong if it cannot."""
        if not self._path(index).is_file():
            raise MediaError(f"{self._path(index)}: is not a file; remove {self.folder}, then the run starts anew")
        try:
            frames = self.load(index)
            self.checked(index)
        except Exception as error:  # numpy, zipfile and zlib have about ten of their own
            fault = f"{type(error).__name__}: {error}"
        else:
            if frames.dtype == np.uint8 and frames.ndim == 4 and shape in (None, frames.shape):
                return True
            fault = f"its frames are {frames.dtype} {list(frames.shape)}"
        logger.warning("%s: damaged (%s); made again, with all pairs behind it", self._path(index), fault)
        return False

    @property
    def _prompt(self) -> Path:
        return self.folder / "prompt.txt"

    @property
    def _claim(self) -> Path:
        return self.folder / "frames_folder.txt"

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npz"
