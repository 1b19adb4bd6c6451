"""Recordings for tests: some of the files in tests/data/golden, as they are or with other contents."""

import shutil
from io import BytesIO
from pathlib import Path

import numpy as np

from tests import golden


def recording(root: Path, *names: str) -> Path:
    """A recording of these files alone."""
    (root / "golden").mkdir(parents=True)
    shutil.copyfile(golden.ROOT / "manifest.json", root / "manifest.json")
    for name in names:
        (root / "golden" / f"{name}.npz").symlink_to(golden.ROOT / "golden" / f"{name}.npz")
    return root


def rewrite(root: Path, name: str, content: bytes) -> None:
    """Put `content` in place of a file, or beside the others."""
    path = root / "golden" / f"{name}.npz"
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def saved(**arrays: np.ndarray) -> bytes:
    """An archive of the arrays."""
    file = BytesIO()
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def pickled() -> bytes:
    """An archive of an array of Python's objects."""
    return saved(emb_0=np.array([object()], dtype=object))
