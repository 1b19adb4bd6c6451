"""A folder of recorded outputs of upstream's classes: `manifest.json` and `golden/*.npz`, read with suspicion."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from jax_interp.errors import CheckpointError
from jax_interp.files.json_file import JsonFault, read_json
from jax_interp.files.numpy_archive import ArchiveFault, read_archive

MANIFEST, FOLDER = "manifest.json", "golden"
TEXT_FILE, CLIP_FILE = "L7_t5", "inputs_clip"
TEXT_ROWS = 512

Draw = Callable[[int], tuple[float, np.ndarray]]
"""A function from the number of a network call to the sigma and the noise of the condition frames."""


@dataclass(frozen=True)
class Recording:
    """An opened folder of recorded outputs; arrays are read when they are asked for."""

    root: Path
    manifest: Mapping[str, Any]
    files: tuple[str, ...]
    """The names of its files of arrays, without suffix, sorted."""

    def load(self, name: str) -> "Arrays":
        """Return all arrays of a file.

        Raises:
            CheckpointError: the file is absent or damaged.
        """
        path = self.root / FOLDER / f"{name}.npz"
        try:
            return Arrays(path, read_archive(path))
        except ArchiveFault as error:
            raise CheckpointError(f"{path}: cannot be read ({error}); record it again") from error

    def facts(self, name: str) -> Mapping[str, Any]:
        """Return what the manifest says about how a file was recorded, as `{"num_steps": 6, "guidance": -1.0}`."""
        golden = self.manifest.get("golden")
        facts = golden.get(f"{name}.npz") if isinstance(golden, dict) else None
        if not isinstance(facts, dict):
            raise self._lacks(f'"golden", "{name}.npz"')
        return facts

    def fact(self, name: str, key: str, kind: type) -> Any:
        """Return one of the `facts` of a file, which must be of the type `kind`; a whole number may be a float."""
        value = self.facts(name).get(key)
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise self._lacks(f'"golden", "{name}.npz", "{key}" ({kind.__name__})')
        return value

    def setting(self, *keys: str) -> int:
        """Return a whole number of the manifest, as `setting("spec", "height")`."""
        value: Any = self.manifest
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if type(value) is not int:
            raise self._lacks(", ".join(f'"{key}"' for key in keys))
        return value

    @cached_property
    def prompts(self) -> list[str]:
        """The texts whose embeddings were recorded; the last one but one is the negative prompt of all runs."""
        prompts = self.facts(TEXT_FILE).get("prompts")
        if not isinstance(prompts, list) or len(prompts) < 6 or not all(isinstance(each, str) for each in prompts):
            raise self._lacks(f'"golden", "{TEXT_FILE}.npz", "prompts" (at least six texts)')
        return prompts

    def text(self, index: int) -> np.ndarray:
        """Return the embedding of prompt `index` as the network gets it, [1, S, D] with zeros behind the prompt."""
        rows = self.load(TEXT_FILE)[f"emb_{index}"]
        return np.pad(rows, ((0, TEXT_ROWS - len(rows)), (0, 0)))[None]

    def drawn_noise(self, shape: tuple[int, ...]) -> Draw:
        """Return the condition noise of a "shipped" run, by the recipe of the format; `shape` is [C, T, H, W].

        Call k of a run has sigma = exp(z), z being the normal deviate of mean -3 and deviation 2 at the k-th uniform
        number of numpy's generator seeded with `global_seed`, and noise of a generator seeded with 500000 + k.
        """
        uniform = np.random.RandomState(self.setting("global_seed"))
        levels: list[float] = []

        def draw(call: int) -> tuple[float, np.ndarray]:
            while len(levels) <= call:
                levels.append(float(np.exp(NormalDist(-3, 2).inv_cdf(float(uniform.uniform(size=1)[0])))))
            noise = np.random.RandomState(500000 + call).standard_normal((1, *shape)).astype(np.float32)
            return levels[call], np.moveaxis(noise[0], 0, -1)

        return draw

    def _lacks(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"{self.root / MANIFEST}: lacks {what}, or it is of another type; docs/parity.md has the format"
        )


class Arrays(Mapping[str, np.ndarray]):
    """The arrays of a file; one that is missing ends the run with the file's name."""

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]):
        self._path, self._arrays = path, arrays

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            raise self.lacks(name)
        return self._arrays[name]

    def lacks(self, name: str) -> CheckpointError:
        """Return an error that says that the file has no array `name`."""
        return CheckpointError(f"{self._path}: has no array {name!r}; docs/parity.md has the format")

    def output(self, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """Return an array that upstream's code gave: finite numbers, at least one, and of `shape` if that is given.

        Raises:
            CheckpointError: it is another, against which any error of ours would seem small.
        """
        array = self[name]
        if array.dtype.kind not in "fiu" or not array.size or not np.isfinite(array).all():
            fault = f"is empty or has values that are no finite numbers (dtype {array.dtype}, shape {array.shape})"
        elif shape is not None and array.shape != shape:
            fault = f"has the shape {array.shape}, but in float32 it was recorded in {shape}"
        else:
            return array
        raise CheckpointError(f"{self._path}: {name} {fault}, so nothing can be compared with it; record it again")

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Any:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def channels_last(array: np.ndarray) -> np.ndarray:
    """Return upstream's [B, C, T, H, W] as our [B, T, H, W, C]."""
    return np.moveaxis(array, 1, -1)


def open_recording(root: Path) -> Recording:
    """Open a folder of recorded outputs.

    Raises:
        CheckpointError: it is no such folder, or its manifest is damaged or of another pipeline.
    """
    folder = root / FOLDER
    if not folder.is_dir():
        raise CheckpointError(
            f"--golden {root}: no recorded outputs, there is no folder {folder}; docs/parity.md has the format"
        )
    try:
        manifest = read_json(root / MANIFEST, dict[str, Any])
    except FileNotFoundError:
        raise CheckpointError(f"{root / MANIFEST}: is missing; docs/parity.md has the format") from None
    except JsonFault as error:
        raise CheckpointError(f"{root / MANIFEST}: damaged, {error}; record it again") from error
    files = tuple(sorted(path.stem for path in folder.glob("*.npz")))
    if not files:
        raise CheckpointError(f"{folder}: has no recorded outputs (*.npz); docs/parity.md has the format")
    recording = Recording(root, manifest, files)
    for name in ("height", "width", "fps"):  # which recordings of other pipelines do not have
        recording.setting("spec", name)
    return recording
