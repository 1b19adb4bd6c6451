"""The guardrails of a run, asked once for all of its processes; what they block is raised in every one."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from jax_interp.errors import Blocked
from jax_interp.guardrails.verdict import Verdict
from jax_interp.media.source import RgbFrames
from jax_interp.pipeline.safety.guardrails import NEGATIVE_PROMPT_GUARDRAILS, PROMPT_GUARDRAILS, Guardrails
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.runtime import processes


def check_prompts(guardrails: Guardrails, settings: InterpolationSettings) -> None:
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
