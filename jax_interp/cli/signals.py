"""SIGTERM and SIGHUP end a command as Ctrl-C does: by an exception, so that nothing half-written stays."""

import errno
import os
import signal
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from jax_interp.errors import Ended

NUMBERS = (signal.SIGTERM, signal.SIGHUP)

_BURST = 5.0
"""Seconds in which further signals are the same request: service managers send both at once, and cleaning up takes a
moment. One that comes later is heard again."""


@contextmanager
def raised() -> Iterator[None]:
    """Within the block the signals raise `Ended` in the main thread. One that is ignored (by `nohup`) stays ignored."""
    heard = float("-inf")

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        before, heard = heard, time.monotonic()
        if heard - before < _BURST:
            return
        if number == signal.SIGHUP:
            _leave_terminal()
        raise Ended(number)

    before = {number: signal.getsignal(number) for number in NUMBERS}
    changed = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, before[number])


def _leave_terminal() -> None:
    """Send what is printed nowhere if the terminal is gone, where printing it would raise amid the cleaning up."""
    for stream in (1, 2):
        try:
            termios.tcgetattr(stream)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
