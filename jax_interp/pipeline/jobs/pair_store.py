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
from jax_interp.files.numpy_archive import opened_archive
from jax_interp.files.private_folder import check_private_folder
from jax_interp.media.output import as_media_error

logger = logging.getLogger("jax_interp")

_MOST_PROMPT_BYTES = 1 << 20

CLAIM = "placing.txt"
"""The file that exists while results may already have their final names. It holds the path of the frames' folder."""


def unfinished_runs(result: Path) -> list[Path]:
    """Return the folders of all unfinished runs of the video `result`, whatever their settings."""
    own = re.compile(rf"\.{re.escape(result.stem)}\.[0-9a-f]{{12}}\.unfinished")
    return sorted(path for path in result.parent.iterdir() if own.fullmatch(path.name))


def is_being_placed(result: Path) -> bool:
    """Tell whether an interrupted run had begun to put results in place, so that those there may be of two runs."""
    return any((folder / CLAIM).exists() for folder in unfinished_runs(result))


class PairStore:
    """A hidden folder beside the result that keeps a run's finished pairs, as `.film.3f2a90c41b7e.unfinished`.

    It is named after the result and the run's fingerprint, and appears when the first prompt or pair is kept. A run
    with other settings, input or networks has a folder of its own and leaves this one alone. A damaged pair is named in
    a warning, and it and all later ones are made again.
    """

    def __init__(self, result: Path, fingerprint: str):
        self.folder = result.with_name(f".{result.stem}.{fingerprint[:12]}.unfinished")
        self._result = result

    def finished(self, most: int | None = None, shape: tuple[int, ...] | None = None) -> int:
        """Return how many pairs are stored whole, counted from the first without a gap, up to `most`.

        `shape` is the shape [F, Y, X, 3] that the frames of a pair have to have; F may also be 1, for a single frame.
        All of them are read, so that the number is known, and told to other processes, before the first pair is used.

        Raises:
            MediaError: something that this program did not make has the name of the folder or of a pair.
        """
        if not self.folder.is_dir() and os.path.lexists(self.folder):
            raise MediaError(f"{self.folder}: is in the way of this run's finished pairs; remove it")
        count = 0
        while count != most and self._path(count).exists() and self._is_whole(count, shape):
            count += 1
        return count

    def load(self, index: int) -> UInt8[np.ndarray, "F Y X 3"]:
        """Return the frames of pair `index`, one of those that `finished` counts."""
        with opened_archive(self._path(index)) as stored:
            return np.asarray(stored["frames"])  # of an entry that is no array numpy gives the bytes

    def checked(self, index: int) -> dict[str, Any] | None:
        """Return what `save` was given as `checked` with pair `index`."""
        with opened_archive(self._path(index)) as stored:
            facts = parse_json(str(stored["checked"]))
        return None if facts is None else decode(dict[str, Any], facts)

    def save(self, index: int, frames: UInt8[np.ndarray, "F Y X 3"], checked: Mapping[str, Any] | None = None) -> None:
        """Store the frames of pair `index`, whole or not at all.

        `checked` is what the guardrails have counted up to this pair, as JSON values.

        Raises:
            MediaError: the disk is full or does not answer; the pairs before stay.
        """
        with self._writing(self._path(index)), open_atomically(self._path(index)) as file:
            np.savez_compressed(file, frames=frames, checked=json.dumps(checked))

    def keep_prompt(self, prompt: str) -> None:
        """Store the prompt that the upsampler wrote for this run; raise as `save` does."""
        with self._writing(self._prompt):
            write_atomically(self._prompt, prompt.encode())

    def kept_prompt(self) -> str | None:
        """Return what `keep_prompt` stored, None if it cannot be read; unlike `prompt` this changes nothing."""
        try:
            return self._prompt.read_text("utf-8") if self._prompt.stat().st_size <= _MOST_PROMPT_BYTES else None
        except (OSError, UnicodeDecodeError):
            return None

    def prompt(self) -> str | None:
        """Return the prompt that was written for this run before it was interrupted; None if there is none.

        A prompt that cannot be read any more will be written again, perhaps with other words. Its pairs would not fit
        those, so the store is removed.

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
        """Note that all results are complete and about to be renamed, the frames to `frames_folder`; raises as `save`.

        From then on, what is found under the final names counts as this program's, even while there is no record.
        """
        with self._writing(self._claim):
            write_atomically(self._claim, b"" if frames_folder is None else os.fsencode(frames_folder.resolve()))

    def claims(self, frames_folder: Path) -> bool:
        """Tell whether this run has put `frames_folder` there, and was interrupted before all results were in place."""
        try:
            return self._claim.read_bytes() == os.fsencode(frames_folder.resolve())
        except OSError:
            return False

    def note_results(self, results: Mapping[Path, Path]) -> None:
        """Note what is about to be renamed: `results` maps final paths of files and folders to their temporary ones."""
        found = {str(final.absolute()): _inode(present) for final, present in results.items()}
        with self._writing(self._results):
            write_atomically(self._results, json.dumps(found).encode())

    def own_results(self) -> list[Path]:
        """Return the final paths under which there is what `note_results` noted, known by its inode."""
        try:
            noted = read_json(self._results, dict[str, list[int]])
            return [Path(path) for path, inode in noted.items() if Path(path).exists() and _inode(Path(path)) == inode]
        except (OSError, ValueError):
            return []

    def others(self) -> list[Path]:
        """Return the folders of unfinished runs of the same result with other settings, input or networks."""
        return [path for path in unfinished_runs(self._result) if path != self.folder]

    def take_over(self) -> None:
        """Remove the claims of the others, because all results that are there now are this run's."""
        for other in self.others():
            with suppress(OSError):
                (other / CLAIM).unlink()

    def remove(self) -> None:
        """Delete the folder, which a finished run does not need."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def check_private(self) -> None:
        """Raise `OSError` if somebody else can put pairs there, which the guardrails then never checked."""
        check_private_folder(self.folder)

    @property
    def _results(self) -> Path:
        return self.folder / "results.json"

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        """Make the folder if it is missing; raise a `MediaError` that names `path` if the block cannot write it."""
        with as_media_error(path):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            yield

    def _is_whole(self, index: int, shape: tuple[int, ...] | None) -> bool:
        """Tell whether pair `index` can be read to its last byte; a warning says what is wrong if it cannot."""
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
    """Return the numbers of device and inode, which a file or folder keeps when it is renamed."""
    found = path.stat()
    return [found.st_dev, found.st_ino]


def _has_shape(frames: np.ndarray, shape: tuple[int, ...] | None) -> bool:
    """Whether `frames` are those of a pair, which have `shape`, or one of them; None is any shape."""
    return shape is None or (len(frames) in (1, shape[0]) and frames.shape[1:] == shape[1:])
