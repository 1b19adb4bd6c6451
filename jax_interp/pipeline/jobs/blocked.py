"""What becomes of a clip's files when the guardrails block it: this run's, and those of an interrupted one like it."""

import logging
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from jax_interp.errors import Blocked
from jax_interp.pipeline.jobs.pair_store import PairStore

logger = logging.getLogger("jax_interp")


def is_blocked(error: BaseException | None) -> bool:
    """Tell whether `error` is `Blocked`, or was raised while a `Blocked` was being handled."""
    return error is not None and (isinstance(error, Blocked) or is_blocked(error.__context__))


def remove_results(store: PairStore, unfinished: Iterable[Path], prompt_file: Path, prompt: str) -> None:
    """Remove all files of a blocked clip; log an error that names what cannot be removed.

    These are the pairs in `store`, the results that a run with the same fingerprint put under their final names before
    it was killed, and the temporary files `unfinished`. `prompt_file` is removed with the results if it holds `prompt`.
    """
    results = store.own_results()
    prompt = store.kept_prompt() or prompt
    if results and prompt_file.is_file() and prompt_file.read_bytes() == f"{prompt}\n".encode():
        results.append(prompt_file)
    store.remove()
    for path in (*unfinished, *results):
        _remove(path)
    for path in (store.folder, *unfinished, *results):
        if path.exists():
            logger.error("%s belongs to what is blocked and cannot be removed; remove it yourself", path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
