"""SIGTERM and SIGHUP end a command with its cleaning up done."""

import gc
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from jax_interp.cli import main as main_module
from jax_interp.cli.terminal import signals
from jax_interp.errors import Ended
from tests.commands import jax_interp


@pytest.fixture(autouse=True)
def not_ignored():
    """However the tests were started: under `nohup` SIGHUP is ignored, and would rightly stay so."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals.NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_an_exception_with_the_shells_exit_code(number, code):
    before = signal.getsignal(number)
    with pytest.raises(Ended, match=f"ended by {number.name}") as ended, signals.raised():
        os.kill(os.getpid(), number)
    assert ended.value.exit_code == code
    assert not isinstance(ended.value, Exception)
    assert signal.getsignal(number) == before


def test_a_second_one_does_not_interrupt_the_cleaning_up():
    cleaned = []

    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            for number in signals.NUMBERS:
                os.kill(os.getpid(), number)
            cleaned.append(True)

    with pytest.raises(Ended, match="SIGTERM"), signals.raised():
        work()
    assert cleaned


def test_one_that_comes_much_later_is_heard(monkeypatch):
    monkeypatch.setattr(signals, "_BURST", 0.0)

    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)

    with pytest.raises(Ended, match="SIGHUP") as ended, signals.raised():
        work()
    assert isinstance(ended.value.__context__, Ended)


def test_what_is_ignored_stays_ignored():
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.raised():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True)
def ctrl_c():
    """A shell ignores it in what it runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Finalized:
    """A signal comes while it is taken down, where Python raises nothing."""

    def __init__(self, number):
        self._number = number

    def __del__(self):
        signal.raise_signal(self._number)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Ended), (signal.SIGHUP, Ended)]
)
def test_one_that_is_lost_in_a_finalizer_comes_again(number, error, times):
    def work():
        for _ in range(times):
            Finalized(number)
        time.sleep(60)

    with pytest.raises(error), signals.raised():
        work()


def test_one_that_is_lost_in_the_garbage_collector_comes_again():
    """As when JAX cleans up there."""

    def collected(phase, info):
        gc.callbacks.remove(collected)
        signal.raise_signal(signal.SIGINT)

    def work():
        gc.callbacks.append(collected)
        gc.collect()
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt), signals.raised():
        work()


def test_other_errors_of_finalizers_are_shown_as_before(monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraised: shown.append(unraised.exc_value))

    class Broken:
        def __del__(self):
            raise ValueError("broken")

    with signals.raised():
        Broken()
    assert [str(error) for error in shown] == ["broken"]


def test_one_that_is_lost_at_the_end_does_not_come_behind_it(monkeypatch):
    monkeypatch.setattr(signals, "_SOON", 0.01)
    heard = []
    with signals.raised():
        Finalized(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    time.sleep(0.1)
    assert heard == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_every_command_ends_with_it(monkeypatch, number, code):
    monkeypatch.setattr(main_module, "app", lambda **_: os.kill(os.getpid(), number))
    outcome = jax_interp("doctor")
    assert (outcome.code, outcome.output) == (code, f"ended by {number.name}")


HANGS = """
import fcntl, pathlib, sys, termios, time
from jax_interp.cli.terminal import signals
from jax_interp.errors import Ended
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
try:
    with signals.raised():
        print("ready", flush=True)
        time.sleep(60)
except Ended as ended:
    print("goodbye", flush=True)
    print("goodbye", file=sys.stderr, flush=True)
    pathlib.Path(sys.argv[1]).write_text("cleaned up")
    sys.exit(ended.exit_code)
"""


@pytest.fixture
def terminal():
    """A pseudo-terminal: the end that is ours, and that of the program in it."""
    try:
        return pty.openpty()
    except OSError as error:
        pytest.skip(f"this system gives no pseudo-terminals ({error}): mount devpts at /dev/pts")


def test_a_terminal_that_is_closed(tmp_path, terminal):
    """Nothing can be printed any more, and trying it does not come in the way of the cleaning up."""
    ours, theirs = terminal
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS, str(tmp_path / "done")],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    assert os.read(ours, 100).startswith(b"ready")
    os.close(ours)
    assert process.wait(timeout=60) == 129
    assert (tmp_path / "done").read_text() == "cleaned up"
