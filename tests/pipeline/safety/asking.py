"""Prompts and frames that tests put to the guardrails, and how a verdict that nothing could be told looks."""

from jax_interp.pipeline.safety.guardrails import FRAME_GUARDRAILS, PROMPT_GUARDRAILS
from jax_interp.pipeline.safety.text_guard import TextGuard
from jax_interp.pipeline.safety.video_guard import FaceGuard, FrameGuard
from tests.guardrails.tiny_guards import MARK, noise

GOOD, BAD, LISTED = "a street in the rain", f"a {MARK} in the rain", "a florble in the rain"
EVERY = (*PROMPT_GUARDRAILS, *FRAME_GUARDRAILS)
HOME = {
    "blocklist": (TextGuard, "check_words"),
    "text_safety": (TextGuard, "classify"),
    "video_safety": (FrameGuard, "check"),
    "face_blur": (FaceGuard, "blur"),
}


def ask(guardrails, name):
    """The verdict on what would pass, by the guardrails of prompts or of frames, whichever `name` is one of."""
    return guardrails.check_prompt(GOOD) if name in PROMPT_GUARDRAILS else guardrails.check_video(noise(2)).verdict


def assert_blocked_by(guardrails, name, *words):
    verdict = ask(guardrails, name)
    assert not verdict.allowed
    assert verdict.category is None
    for word in (f"{name}: it could not tell", "--disable-guardrail", *words):
        assert word in verdict.reason
    if name in FRAME_GUARDRAILS:
        assert guardrails.check_video(noise(2)).frames is None
