"""SIGTERM and SIGHUP end a command with its cleaning up done."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from jax_interp.cli import main as main_module
from jax_interp.cli import signals
from jax_interp.errors import Ended
from tests.commands import jax_interp


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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_every_command_ends_with_it(monkeypatch, number, code):
    monkeypatch.setattr(main_module, "app", lambda: os.kill(os.getpid(), number))
    outcome = jax_interp("doctor")
    assert (outcome.code, outcome.output) == (code, f"ended by {number.name}")


HANGS = """
import fcntl, pathlib, sys, termios, time
from jax_interp.cli import signals
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


def test_a_terminal_that_is_closed(tmp_path):
    """Nothing can be printed any more, and trying it does not come in the way of the cleaning up."""
    ours, theirs = pty.openpty()
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
