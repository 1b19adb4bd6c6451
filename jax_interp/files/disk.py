"""The message for a file that the disk does not take."""

import shutil
from pathlib import Path

from jax_interp.byte_sizes import format_bytes


def why_not_written(path: Path, error: Exception) -> str:
    """Return why `path` was not written, the free space and what to do, to be put behind the file's name."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    reason = getattr(error, "strerror", None) or str(error)
    free = format_bytes(shutil.disk_usage(folder).free, "GB", digits=2)
    return f"cannot be written ({reason}); {free} are free in {folder}: make room there, or choose another place"
