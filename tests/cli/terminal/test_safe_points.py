import signal
from contextlib import contextmanager

import pytest

from jax_interp.cli.terminal.safe_points import safe_points


@pytest.fixture(autouse=True)
def handlers():
    """A shell ignores Ctrl-C in what it runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def work(done, number=signal.SIGINT, times=1):
    """Two steps, a signal between them and a safe point behind each; `done` is told what happened."""
    with safe_points() as points:
        try:
            points.reached()
            for _ in range(times):
                signal.raise_signal(number)
            done.append("step")
            points.reached()
            done.append("next step")
        except Exception as error:
            done.append(type(error).__mro__[1])
            raise
        finally:
            done.append("cleaned up")


def test_a_signal_waits_for_the_next_safe_point_and_is_an_ordinary_exception_there():
    """Event loops and pools hand that on to whoever waits for them; `KeyboardInterrupt` would tear them apart."""
    done = []
    with pytest.raises(KeyboardInterrupt):
        work(done)
    assert done == ["step", Exception, "cleaned up"]


def test_a_second_signal_is_handled_at_once():
    done = []
    with pytest.raises(KeyboardInterrupt):
        work(done, times=2)
    assert done == ["cleaned up"]


def test_a_signal_behind_the_last_safe_point_changes_nothing():
    with safe_points() as points:
        points.reached()
        signal.raise_signal(signal.SIGINT)


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    done = []
    try:
        work(done, signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done == ["step", "next step", "cleaned up"]


def test_the_handler_of_another_signal_says_how_the_command_ends():
    def end(number, frame):
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
            work([], signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_every_report_of_progress_is_a_safe_point():
    told = []

    @contextmanager
    def progress(label, total):
        told.append((label, total))
        yield told.append

    def job():
        with safe_points() as points, points.within(progress)("job", 3) as advance:
            advance(1)
            signal.raise_signal(signal.SIGINT)
            advance(2)
            advance(3)

    with pytest.raises(KeyboardInterrupt):
        job()
    assert told == [("job", 3), 1, 2]
