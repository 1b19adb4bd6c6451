"""The options of the guardrails of a run."""

import logging
from collections.abc import Mapping
from pathlib import Path

from jax_interp.cli.options.networks import GUARDRAILS, NetworkFolders
from jax_interp.errors import UsageError
from jax_interp.pipeline.safety.guardrails import Guardrails
from jax_interp.pipeline.safety.settings import TIMEOUT

logger = logging.getLogger("jax_interp")


def open_guardrails(
    checkpoint_dir: Path,
    folders: NetworkFolders,
    *,
    frame_stride: int,
    timeout: float,
    disabled: bool,
    text_embeddings: Path | None,
) -> Guardrails | None:
    """The guardrails of a run, None if they are disabled.

    Raises:
        UsageError: they are disabled, and options say how they should be.
    """
    own = {f"{name}_dir": folders[name] for name in GUARDRAILS}
    unusual = {"guardrail_frame_stride": frame_stride != 1, "guardrail_timeout": timeout != TIMEOUT}
    refuse_unused(disabled, {name: folder is not None for name, folder in own.items()} | unusual)
    if not disabled and text_embeddings is not None:
        logger.warning(
            "--text-embeddings %s: the guardrails check a text, not what is given as its embedding", text_embeddings
        )
    if not disabled:
        return Guardrails.open(checkpoint_dir, **own, frame_stride=frame_stride, timeout=timeout)
    logger.warning("guardrail: off. Neither prompts nor frames are checked; the run record says so")
    return None


def refuse_unused(disabled: bool, given: Mapping[str, bool]) -> None:
    """Raise `UsageError` if the guardrails are disabled and one of the options, by its parameter's name, is given."""
    flags = [f"--{name.replace('_', '-')}" for name, there in given.items() if there]
    if disabled and flags:
        raise UsageError(f"--disable-guardrail contradicts {', '.join(flags)}: leave out one or the other")
