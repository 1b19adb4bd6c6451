"""The choice of the texts that a run reads, which depends on its guidance."""

import logging
from collections.abc import Sequence

from jax_interp.diffusion.branches import Branch, branches
from jax_interp.pipeline.prompt.prompts import DEFAULT_NEGATIVE_PROMPT

logger = logging.getLogger("jax_interp")


def texts_read(prompt: str, negative_prompt: str | None, guidance: float) -> dict[Branch, str]:
    """Return the text of every branch that `guidance` evaluates, except branches that read the all-zero embedding.

    `negative_prompt=None` stands for upstream's default text. A prompt that cannot change the result causes a warning.
    """
    needed = branches(guidance)
    _warn_of_unread(prompt, needed)
    negative = DEFAULT_NEGATIVE_PROMPT if negative_prompt is None else negative_prompt
    texts: dict[Branch, str] = {}
    if Branch.CONDITIONAL in needed:
        texts[Branch.CONDITIONAL] = prompt
    # parity: without a negative prompt upstream's unconditional branch reads zeros, not an encoded empty text.
    if Branch.UNCONDITIONAL in needed and negative:
        texts[Branch.UNCONDITIONAL] = negative
    return texts


def texts_of_world(prompt: str, negative_prompt: str | None, guidance: float) -> dict[Branch, str]:
    """Return the text of every branch that Video2World evaluates at `guidance`; the empty prompt is a text too.

    `negative_prompt=None` stands for upstream's default text. With the empty one the unconditional branch reads the
    prompt, so that guidance has no effect, of which a warning tells. A prompt that is not read causes one too.
    """
    negative = DEFAULT_NEGATIVE_PROMPT if negative_prompt is None else negative_prompt
    if not negative:
        if guidance != 0:
            logger.warning("the negative prompt is empty: guidance has no effect, as in upstream's program")
        return {Branch.CONDITIONAL: prompt}
    texts = {Branch.CONDITIONAL: prompt, Branch.UNCONDITIONAL: negative}
    needed = branches(guidance)
    _warn_of_unread(prompt, needed)
    return {branch: texts[branch] for branch in needed}


def _warn_of_unread(prompt: str, needed: Sequence[Branch]) -> None:
    """Log it if there is a prompt that none of the branches `needed` reads."""
    if prompt and Branch.CONDITIONAL not in needed:
        logger.warning(
            "the prompt cannot change the result: at guidance -1 only the negative prompt counts."
            " Pass --guidance 0 to follow the prompt alone, or a positive value to push away from the negative one"
        )
