"""The files that a network needs from other folders: some are copied along, and an adapter is merged."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jax_interp.errors import CheckpointError


@dataclass(frozen=True)
class AdapterFolder:
    """The folder of a LoRA adapter that belongs to one of the networks that a component can be.

    `convert.source.adapter` merges it.
    """

    folder: str
    """The folder, relative to the checkpoint folder (upstream's own layout)."""
    base: str
    """The last part of the folder name of the network that it was trained on."""
    copied: Mapping[str, str]
    """Its files that are copied along, and where they go in the converted folder."""


@dataclass(frozen=True)
class Companion:
    """Files of another folder of the checkpoint folder."""

    folder: str
    """The folder, relative to the checkpoint folder (upstream's own layout)."""
    into: str
    """Where the files go in the converted folder. A folder of that name beside the weights is preferred to `folder`."""
    files: tuple[str, ...]
    """Patterns relative to the folder, `*` standing for any part of a name; each must match at least one file."""

    def find(self, own: Path, checkpoint_dir: Path) -> dict[str, Path]:
        """Return the files by name in the converted folder; `own` is the network's folder in `checkpoint_dir`.

        Raises:
            CheckpointError: some are missing (all are named), or one is a link.
        """
        folder = own / self.into if (own / self.into).is_dir() else checkpoint_dir / self.folder
        found = {pattern: list(_plain_files(folder, pattern)) for pattern in self.files}
        missing = [pattern for pattern, paths in found.items() if not paths]
        if missing:
            raise CheckpointError(
                f"{folder}: lacks {', '.join(missing)}, which {own} cannot be used without; download the folder with"
                " `jax-interp download`"
            )
        files = (path for paths in found.values() for path in paths)
        return {f"{self.into}/{path.relative_to(folder).as_posix()}": path for path in files}


def _plain_files(folder: Path, pattern: str) -> Iterator[Path]:
    for path in sorted(folder.glob(pattern)):
        if path.name.startswith("."):
            continue
        links = [place for place in (path, *path.parents) if place.is_relative_to(folder) and place.is_symlink()]
        if links:
            raise CheckpointError(f"{links[-1]}: is a link, which is not followed; put the file itself there")
        if path.is_file():
            yield path
