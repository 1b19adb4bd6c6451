"""Files of a checkpoint folder whose full name is not known beforehand."""

from pathlib import Path

from jax_interp.errors import CheckpointError


def find_file(folder: Path, name: str) -> Path | None:
    """Return the file `name` of `folder`, or None; a `*` in `name` stands for any part of a folder's name.

    Raises:
        CheckpointError: several files fit, and nothing tells which one is meant.
    """
    if "*" not in name:
        return folder / name if (folder / name).is_file() else None
    found = sorted(path for path in folder.glob(name) if path.is_file())
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise CheckpointError(f"{folder}: has {names}, of which one is wanted; remove the others")
    return found[0] if found else None
