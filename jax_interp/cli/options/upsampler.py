"""The options that say whether and how prompts are written."""

import logging
from collections.abc import Sequence
from pathlib import Path

from jax_interp.diffusion.branches import Branch, branches
from jax_interp.errors import UsageError
from jax_interp.pipeline.jobs.request import Job
from jax_interp.pipeline.prompt.upsampler_settings import DEFAULT_SETTINGS, UpsamplerSettings
from jax_interp.runtime.checkpoint import has_component

logger = logging.getLogger("jax_interp")


def upsampler_settings(instruction: str | None, tokens: int) -> UpsamplerSettings:
    """How prompts are written; without an instruction, the usual one is used."""
    wanted = DEFAULT_SETTINGS.instruction if instruction is None else instruction
    return UpsamplerSettings(instruction=wanted, max_new_tokens=tokens)


def choose_upsampler(
    prompt: str | None, wanted: bool | None, instruction: str | None, tokens: int, guidance: float
) -> UpsamplerSettings | None:
    """How prompts that are not given are written; None leaves them empty."""
    if wanted and prompt is not None:
        raise UsageError("--prompt and --prompt-upsampler: give one of them")
    settings = upsampler_settings(instruction, tokens)
    if wanted is False or prompt is not None:
        return None
    if wanted is None and Branch.CONDITIONAL not in branches(guidance):
        logger.info(
            "prompt upsampler: skipped, since at guidance -1 the prompt cannot change the result; --prompt-upsampler"
            " runs it all the same"
        )
        return None
    return settings


def check_upsampler(jobs: Sequence[Job], checkpoint_dir: Path, *, asked_for: bool) -> None:
    """Say what a prompt can come from where nobody asked for the upsampler and it is not there."""
    wanted = any(job.upsampler is not None for job in jobs)
    if wanted and not asked_for and not has_component(checkpoint_dir, "prompt_upsampler"):
        raise UsageError(
            f"no --prompt, and {checkpoint_dir} has no prompt upsampler to write one: give --prompt, fetch one"
            " (`jax-interp download --components prompt_upsampler`, 25 GB, then `jax-interp convert`), or pass"
            " --disable-prompt-upsampler for the empty prompt"
        )
