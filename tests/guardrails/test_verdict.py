import dataclasses

import pytest

from jax_interp.guardrails.verdict import Verdict


def test_allowed_and_blocked():
    assert Verdict.allow() == Verdict(allowed=True, reason="nothing was found", category=None)
    blocked = Verdict.block("frame 3 is not safe", category="Violence")
    assert (blocked.allowed, blocked.reason, blocked.category) == (False, "frame 3 is not safe", "Violence")
    assert Verdict.block("it broke").category is None


def test_a_verdict_stands():
    verdict = Verdict.block("it broke")
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict.allowed = True  # type: ignore[misc]
