"""Whatever goes wrong in a check blocks."""

import threading

import jax
import pytest

from jax_interp.errors import CheckpointError, UsageError
from jax_interp.guardrails.verdict import Verdict
from jax_interp.pipeline.safety.fail_closed import FailClosed


class Panic(BaseException):
    """As Rust's are: no `Exception`."""


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("cannot be shown either")


class Agreeing(Verdict):
    """Not what a guardrail gives."""


ERRORS = [
    ValueError("three"),
    MemoryError(),
    RecursionError("deep"),
    StopIteration(),
    AssertionError(),
    FloatingPointError("values that are not numbers"),
    jax.errors.JaxRuntimeError("INTERNAL: a kernel failed"),
    Panic("rust"),
    Unspeakable(),
]


def raising(error):
    def check():
        raise error

    return check


def test_a_verdict_passes_through():
    closed = FailClosed()
    for verdict in (Verdict.allow("fine"), Verdict.block("bad", "S1")):
        assert closed.run("text_safety", "text_safety", lambda verdict=verdict: verdict) is verdict


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_exception_blocks(error):
    closed = FailClosed()
    verdict = closed.run("blocklist", "text_safety", raising(error))
    assert not verdict.allowed
    assert verdict.category is None
    assert type(error).__name__ in verdict.reason
    assert "`generate --disable-guardrail`, in Python guardrails=False" in verdict.reason
    assert closed.run("blocklist", "text_safety", Verdict.allow).allowed  # the next check is not affected


def test_the_reason_says_what_to_do():
    closed = FailClosed()
    assert "convert --components face_blur" in closed.run("face_blur", "face_blur", raising(ValueError("x"))).reason
    own = closed.run("face_blur", "face_blur", raising(CheckpointError("a/b: damaged; do this"))).reason
    assert "a/b: damaged; do this" in own
    full = closed.run("face_blur", "face_blur", raising(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 3 GB"))).reason
    assert "memory ran out" in full
    assert "--placement" in full


@pytest.mark.parametrize(
    "answer",
    [None, True, 1, float("nan"), "safe", (Verdict.allow(), None), Agreeing.allow(), Verdict(1, "x"), ValueError],  # type: ignore[arg-type]
    ids=str,
)
def test_what_is_no_verdict_blocks(answer):
    verdict = FailClosed().run("text_safety", "text_safety", lambda: answer)
    assert type(verdict) is Verdict
    assert not verdict.allowed


def test_an_error_that_is_returned_blocks():
    assert not FailClosed().run("text_safety", "text_safety", lambda: ValueError("three")).allowed  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_check_that_would_end_the_program_blocks(stop):
    closed = FailClosed()
    verdict = closed.run("text_safety", "text_safety", raising(stop(0)))
    assert not verdict.allowed
    assert f"it could not tell (RuntimeError: {stop.__name__}: 0)" in verdict.reason
    assert not closed.broken


def test_what_takes_too_long_blocks_and_all_that_follows():
    closed, released = FailClosed(timeout=0.05), threading.Event()

    def slow():
        released.wait(30)
        return Verdict.allow()

    try:
        verdict = closed.run("video_safety", "video_safety", slow)
        assert not verdict.allowed
        assert "longer than 0.05 s" in verdict.reason
        assert "--guardrail-timeout" in verdict.reason
        assert closed.broken
        asked = []
        later = closed.run("blocklist", "text_safety", lambda: asked.append(1) or Verdict.allow())
        assert not later.allowed
        assert "video_safety" in later.reason
        assert not asked
    finally:
        released.set()


def test_a_thread_that_cannot_start_blocks(monkeypatch):
    closed = FailClosed()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", raising(RuntimeError("can't start new thread")).__get__)
        assert not closed.run("blocklist", "text_safety", Verdict.allow).allowed
    assert closed.run("blocklist", "text_safety", Verdict.allow).allowed


def test_an_interrupt_while_waiting_leaves_the_check_behind(monkeypatch):
    closed, released = FailClosed(), threading.Event()

    def interrupted(self, timeout):
        raise KeyboardInterrupt

    def late() -> Verdict:
        released.wait(30)
        return Verdict.allow()

    class Queue:
        put, get = (lambda self, answer: None), interrupted

    monkeypatch.setattr("jax_interp.pipeline.safety.fail_closed.queue.SimpleQueue", Queue)
    try:
        with pytest.raises(KeyboardInterrupt):
            closed.run("text_safety", "text_safety", late)
        assert closed.broken
        assert not closed.run("text_safety", "text_safety", Verdict.allow).allowed
    finally:
        released.set()


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_has_to_be_a_time(timeout):
    with pytest.raises(UsageError, match="--guardrail-timeout"):
        FailClosed(timeout)
