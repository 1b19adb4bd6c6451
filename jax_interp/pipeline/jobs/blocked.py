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
    """Whether `error` is `Blocked`, or was raised while that was on its way."""
    return error is not None and (isinstance(error, Blocked) or is_blocked(error.__context__))


def remove_results(store: PairStore, unfinished: Iterable[Path], prompt_file: Path, prompt: str) -> None:
    """Remove all that there is of a blocked clip.

    That is what runs of the identity of `store` have kept, what one of them has put under the names of results before
    it was killed, and `unfinished`, the names under which results are written.

    `prompt_file` goes with the results if it holds `prompt`. What cannot be removed is named.
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
