"""Finished pairs of an unfinished run on disk, so that an interrupted run goes on where it stopped."""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jax_interp.errors import MediaError
from jax_interp.files.atomic import open_atomically, write_atomically
from jax_interp.files.json_file import parse_json, read_json
from jax_interp.files.json_schema import decode
from jax_interp.files.private_folder import check_private_folder
from jax_interp.media.output import as_media_error

logger = logging.getLogger("jax_interp")

_MOST_PROMPT_BYTES = 1 << 20

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

    A run with other settings, input or networks has a folder of its own and leaves this one alone. What is damaged is
    named in a warning and made again, with all pairs behind it; everything in here can be.
    """

    def __init__(self, result: Path, fingerprint: str):
        self.folder = result.with_name(f".{result.stem}.{fingerprint[:12]}.unfinished")
        self._result = result

    def finished(self, most: int | None = None, shape: tuple[int, ...] | None = None) -> int:
        """How many pairs, counted from the first without a gap, are stored and whole; it looks at `most` of them.

        `shape` is what the frames of a pair have to have; it may also be a single frame. All are read: how many pairs
        are made anew is settled, and told to other processes, before the first one is used.

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
        with self._open(index) as stored:
            return np.asarray(stored["frames"])  # of an entry that is no array numpy gives the bytes

    def checked(self, index: int) -> dict[str, Any] | None:
        """What `save` was told with pair `index`."""
        with self._open(index) as stored:
            facts = parse_json(str(stored["checked"]))
        return None if facts is None else decode(dict[str, Any], facts)

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

    def kept_prompt(self) -> str | None:
        """What `keep_prompt` wrote, as far as it can be read; unlike `prompt` this changes nothing."""
        try:
            return self._prompt.read_text("utf-8") if self._prompt.stat().st_size <= _MOST_PROMPT_BYTES else None
        except (OSError, UnicodeDecodeError):
            return None

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

    def claim(self, frames_folder: Path | None = None) -> None:
        """Note that all results are complete and about to appear, the frames as `frames_folder`; raises as `save` does.

        What is found under their names from then on is this program's, though the record is not there to say so.
        """
        with self._writing(self._claim):
            write_atomically(self._claim, b"" if frames_folder is None else os.fsencode(frames_folder.resolve()))

    def claims(self, frames_folder: Path) -> bool:
        """Whether what is found as `frames_folder` is this run's own, which ended before all its results were there."""
        try:
            return self._claim.read_bytes() == os.fsencode(frames_folder.resolve())
        except OSError:
            return False

    def note_results(self, results: Mapping[Path, Path]) -> None:
        """Note what is about to be renamed: `results` has the final path of each file or folder and its present one."""
        found = {str(final.absolute()): _inode(present) for final, present in results.items()}
        with self._writing(self._results):
            write_atomically(self._results, json.dumps(found).encode())

    def own_results(self) -> list[Path]:
        """What is found under final names and was put there by this run, as far as it was noted before it ended."""
        try:
            noted = read_json(self._results, dict[str, list[int]])
            return [Path(path) for path, inode in noted.items() if Path(path).exists() and _inode(Path(path)) == inode]
        except (OSError, ValueError):
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
        with as_media_error(path):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            yield

    @contextmanager
    def _open(self, index: int) -> Iterator[Mapping[str, np.ndarray]]:
        """What is stored of pair `index`. Opened here: numpy leaves a file that is no archive open."""
        with self._path(index).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            yield stored

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
            if frames.dtype == np.uint8 and frames.ndim == 4 and _has_shape(frames, shape):
                return True
            fault = f"its frames are {frames.dtype} {list(frames.shape)}"
        logger.warning("%s: damaged (%s); made again, with all pairs behind it", self._path(index), fault)
        return False

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


def _has_shape(frames: np.ndarray, shape: tuple[int, ...] | None) -> bool:
    """Whether `frames` are those of a pair, which have `shape`, or one of them; None is any shape."""
    return shape is None or (len(frames) in (1, shape[0]) and frames.shape[1:] == shape[1:])
