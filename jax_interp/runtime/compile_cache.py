"""Compiled programs kept in the user's cache folder, so that a second start does not compile again."""

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
"""Beyond this JAX removes what was not used for longest."""

_ENTRY, _STAMP = "-cache", "-atime"
"""How JAX's names of an entry and of its time of last use end; the latter is written last."""


_NOT_KEPT = "Error writing persistent compilation cache entry"
"""How JAX's warning begins, of which a full disk costs one for each program."""


def compiled_folder() -> Path:
    """Where compiled programs go unless the user chose a folder."""
    return user_cache_folder() / "compiled"


def enable_compile_cache() -> None:
    """Let JAX keep what it compiles in `compiled_folder()` from now on, and take from there what is known.

    Changes nothing if a folder is set already (JAX_COMPILATION_CACHE_DIR) or the cache is switched off
    (JAX_ENABLE_COMPILATION_CACHE=false); the cache's other settings are the user's too where the environment has them.
    A folder that cannot be used costs a warning, never the run.
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
    # A damaged entry is no reason to stop: it is compressed, what was cut off fails to decompress, and JAX then warns
    # and compiles (jax_raise_persistent_cache_errors is off by default).
    jax.config.update("jax_compilation_cache_dir", str(folder))
    _tell_once(folder)


def prepare_folder(folder: Path) -> None:
    """Make the folder, for the user alone; raises `OSError` if it cannot be written, or others can write there."""
    prepare_private_folder(folder)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _tell_once(folder: Path) -> None:
    """Say once, in a line, that programs cannot be kept in `folder`; JAX would say it of every program in three."""
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
    """JAX's cache settings for this program.

    `jax_persistent_cache_enable_xla_caches` stays as it is: kernels' autotuning is kept. With "all", XLA would split
    every program into a module a kernel and link them with nvlink, which the CUDA wheels do not bring.
    """
    # The default leaves out what compiles in less than a second; together that takes as long as the large programs.
    settings = {"jax_persistent_cache_min_compile_time_secs": 0.0, "jax_persistent_cache_min_entry_size_bytes": -1}
    if find_spec("filelock"):  # comes with huggingface_hub; JAX raises if there is a limit and no filelock
        settings["jax_compilation_cache_max_size"] = MAX_BYTES
    return settings


def _remove_unfinished(folder: Path) -> None:
    """Remove the entries that a kill or a full disk cut off.

    JAX would never replace them, and JAX 0.10 writes nothing more where an entry has no time stamp. Should another
    process be about to finish one of them, that one is compiled once more some day.
    """
    for entry in folder.glob(f"*{_ENTRY}"):
        if not entry.with_name(entry.name.removesuffix(_ENTRY) + _STAMP).exists():
            entry.unlink(missing_ok=True)
