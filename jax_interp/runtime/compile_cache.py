"""A persistent cache of compiled programs in the user's cache folder, so that a second start compiles nothing."""

import logging
import os
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jax_interp.files.private_folder import prepare_private_folder, user_cache_folder

logger = logging.getLogger("jax_interp")

MAX_BYTES = 4 * 10**9
"""The size beyond which JAX removes the least recently used programs."""

_ENTRY, _STAMP = "-cache", "-atime"
"""The suffixes of JAX's file of an entry and of its file with the time of last use; JAX writes the latter last."""


_NOT_KEPT = "Error writing persistent compilation cache entry"
"""The beginning of the warning that JAX repeats for every program when the disk is full."""


def compiled_folder() -> Path:
    """Return the folder of compiled programs, unless the user chose another."""
    return user_cache_folder() / "compiled"


def enable_compile_cache() -> None:
    """Let JAX store compiled programs in `compiled_folder()` from now on, and load those that are there.

    This changes nothing if a folder is set already (JAX_COMPILATION_CACHE_DIR) or the cache is switched off
    (JAX_ENABLE_COMPILATION_CACHE=false). Settings of the cache that the environment has stay as they are. A folder that
    cannot be used costs a warning, never the run.
    """
    import jax

    if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:  # type: ignore[attr-defined]
        return
    for name, value in _settings().items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    try:
        folder = compiled_folder()
        prepare_folder(folder)
        if jax.config.jax_compilation_cache_max_size != -1:  # type: ignore[attr-defined]
            _remove_unfinished(folder)
    except OSError as error:
        logger.warning(
            "compiled programs cannot be kept (%s): every start compiles anew. Set JAX_COMPILATION_CACHE_DIR to a"
            " folder of your own",
            error,
        )
        return
    # A damaged entry does not stop the run: entries are compressed, a truncated one fails to decompress, and JAX then
    # warns and compiles (jax_raise_persistent_cache_errors is off by default).
    jax.config.update("jax_compilation_cache_dir", str(folder))
    _tell_once(folder)


def prepare_folder(folder: Path) -> None:
    """Create the folder, accessible to the user alone.

    Raises:
        OSError: the folder cannot be written, or others can write to it.
    """
    prepare_private_folder(folder)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _tell_once(folder: Path) -> None:
    """Warn once, in one line, that programs cannot be stored in `folder`; JAX would warn for every program in three."""
    show, told = warnings.showwarning, False

    def show_once(message: Warning | str, *about: Any, **more: Any) -> None:
        nonlocal told
        if not str(message).startswith(_NOT_KEPT):
            show(message, *about, **more)
        elif not told:
            told = True
            fault = str(message).partition(": ")[2]
            logger.warning(
                "%s: compiled programs can no longer be kept there (%s), the next start compiles them anew",
                folder,
                fault,
            )

    warnings.showwarning = show_once


def _settings() -> dict[str, float | int]:
    """Return JAX's cache settings for this program.

    `jax_persistent_cache_enable_xla_caches` keeps its default, which stores the results of kernels' autotuning. With
    "all", XLA would split every program into one module a kernel and link them with nvlink, which the CUDA wheels lack.
    """
    # By default JAX skips programs that compile in less than a second; together they take as long as the large ones.
    settings = {"jax_persistent_cache_min_compile_time_secs": 0.0, "jax_persistent_cache_min_entry_size_bytes": -1}
    if find_spec("filelock"):  # comes with huggingface_hub; JAX raises if there is a limit and no filelock
        settings["jax_compilation_cache_max_size"] = MAX_BYTES
    return settings


def _remove_unfinished(folder: Path) -> None:
    """Remove the entries that were left incomplete by a kill or a full disk.

    JAX would never replace them, and JAX 0.10 writes nothing more where an entry has no time stamp. If another process
    is just finishing one of them, that program is compiled once more later.
    """
    for entry in folder.glob(f"*{_ENTRY}"):
        if not entry.with_name(entry.name.removesuffix(_ENTRY) + _STAMP).exists():
            entry.unlink(missing_ok=True)
