"""What the processes of an `Interpolator` decide as one: what may be shown, and whether a text is encoded once more.

All of them call this in the same order. In a single process it costs nothing. What a run of several processes agrees on
beside that is in `jobs/agreements.py`.
"""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from jax_interp.errors import Blocked
from jax_interp.guardrails.verdict import Verdict
from jax_interp.media.source import RgbFrames
from jax_interp.pipeline.prompt.embeddings import Embedding, EmbeddingCache
from jax_interp.pipeline.safety.guardrails import NEGATIVE_PROMPT_GUARDRAILS, PROMPT_GUARDRAILS, Guardrails
from jax_interp.pipeline.settings import RunSettings
from jax_interp.runtime import processes


class SharedCache(EmbeddingCache):
    """A cache that holds what every process has kept: all encode a text or none, since each has a part in that."""

    def get(self, network: str, text: str) -> Embedding | None:
        """The embedding of `text` by the network with identity `network`, if it is there in every process."""
        found = super().get(network, text)
        is_everywhere = all(
            processes.everyone("whether the prompt was encoded before", found is not None, timeout=None)
        )
        return found if is_everywhere else None


def check_prompts(guardrails: Guardrails, settings: RunSettings) -> None:
    """Raise `Blocked` unless the texts that steer a run may be used; an empty one says nothing that could be checked.

    What passed before is not asked about again.
    """
    _check_text(guardrails, "the prompt", settings.prompt, guardrails.check_prompt, PROMPT_GUARDRAILS)
    negative, names = settings.followed_negative_prompt, NEGATIVE_PROMPT_GUARDRAILS
    _check_text(guardrails, "the negative prompt", negative, guardrails.check_negative_prompt, names)


def check_frames(guardrails: Guardrails, frames: RgbFrames, first_number: int) -> RgbFrames:
    """Process 0's frames to be shown in the place of `frames`; raises `Blocked` if they may not be.

    In other processes, which show nothing, the frames come back black: only process 0 knows where faces are.
    """
    if not processes.is_first():
        _raise_if_blocked("the video", None)
        return np.zeros_like(frames)
    checked = guardrails.check_video(frames, first_number)
    there = checked.frames is not None
    _raise_if_blocked("the video", checked.verdict if there or not checked.verdict.allowed else _NO_FRAMES)
    assert checked.frames is not None
    return checked.frames


_NO_FRAMES = Verdict.block("the guardrails gave no frames to show")


def _check_text(
    guardrails: Guardrails, what: str, text: str, check: Callable[[str], Verdict], names: tuple[str, ...]
) -> None:
    if not text or guardrails.passed_before(text, names):
        return
    _raise_if_blocked(what, check(text) if processes.is_first() else None)
    guardrails.remember_passed(text, names)


def _raise_if_blocked(what: str, found: Verdict | None) -> None:
    """`found` is process 0's; the others wait for it as long as that one lives."""
    verdict = Verdict(
        **processes.decide(f"what the guardrails say about {what}", found and asdict(found), timeout=None)
    )
    if verdict.allowed is not True:
        blocked = Blocked(what, verdict)
        blocked.in_all_processes = True
        raise blocked
