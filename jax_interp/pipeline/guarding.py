"""The guardrails of a run, asked once for all of its processes; what they block is raised in every one."""

from dataclasses import asdict

from jax_interp.errors import Blocked
from jax_interp.guardrails.verdict import Verdict
from jax_interp.media.source import Clip
from jax_interp.pipeline.guardrails import Guardrails
from jax_interp.runtime import processes


def check_prompt(guardrails: Guardrails, prompt: str) -> None:
    """Raise `Blocked` unless `prompt` may be used; an empty one says nothing that could be checked."""
    if not prompt or guardrails.passed_before(prompt):
        return
    found = guardrails.check_prompt(prompt) if processes.is_first() else None
    _raise_if_blocked("the prompt", found)
    guardrails.remember_passed(prompt)


def check_frames(guardrails: Guardrails, frames: Clip, first_number: int) -> Clip:
    """Process 0's frames to be shown in the place of `frames`; raises `Blocked` if they may not be.

    In other processes, which show nothing, the frames come back as they are.
    """
    checked = guardrails.check_video(frames, first_number) if processes.is_first() else None
    _raise_if_blocked("the video", checked.verdict if checked else None)
    return frames if checked is None or checked.frames is None else checked.frames


def _raise_if_blocked(what: str, found: Verdict | None) -> None:
    """`found` is process 0's; the others wait for it as long as that one lives."""
    verdict = Verdict(
        **processes.decide(f"what the guardrails say about {what}", found and asdict(found), timeout=None)
    )
    if verdict.allowed is not True:
        raise Blocked(what, verdict)
