"""The message for a file that the disk does not take."""

import errno
import shutil
from pathlib import Path

from jax_interp.byte_sizes import format_bytes

_NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)
"""The errors that free space does not mend."""


def why_not_written(path: Path, error: Exception) -> str:
    """Return why `path` was not written, the free space if it matters, and what to do: text behind the file's name."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    reason = getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) in _NOT_ALLOWED:
        return f"cannot be written ({reason}); choose another place, or allow to write in {folder}"
    free = format_bytes(shutil.disk_usage(folder).free, "GB", digits=2)
    return f"cannot be written ({reason}); {free} are free in {folder}: make room there, or choose another place"
