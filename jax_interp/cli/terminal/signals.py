"""SIGTERM and SIGHUP end a command as Ctrl-C does: by an exception, so that nothing half-written stays.

A signal may come while Python runs what cannot raise: a finalizer, or a callback of the garbage collector, of which JAX
has one. Python would print the exception, and the command would go on as if nothing had been asked of it.
"""

import _thread
import errno
import os
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from jax_interp.errors import Ended

NUMBERS = (signal.SIGTERM, signal.SIGHUP)

_BURST = 5.0
"""Seconds in which further signals are the same request: service managers send both at once, and cleaning up takes a
moment. One that comes later is heard again."""

_SOON = 0.05
"""Seconds until a signal whose exception was lost comes again."""


@contextmanager
def raised() -> Iterator[None]:
    """Within the block the signals raise `Ended` in the main thread. One that is ignored (by `nohup`) stays ignored.

    Where that cannot be raised it is raised soon after, and so is the `KeyboardInterrupt` of Ctrl-C.
    """
    heard = float("-inf")

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        before, heard = heard, time.monotonic()
        if heard - before < _BURST:
            return
        if number == signal.SIGHUP:
            _leave_terminal()
        raise Ended(number)

    def forget() -> None:
        nonlocal heard
        heard = float("-inf")

    before = {number: signal.getsignal(number) for number in NUMBERS}
    changed = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, end)
    try:
        with _sent_again(forget):
            yield
    finally:
        for number in changed:
            signal.signal(number, before[number])


@contextmanager
def _sent_again(forget: Callable[[], None]) -> Iterator[None]:
    """Send a signal whose exception was lost to the main thread again, after calling `forget`."""
    is_over = False
    show = sys.unraisablehook

    def send(number: int) -> None:
        time.sleep(_SOON)
        if not is_over:
            signal.pthread_kill(threading.main_thread().ident or 0, number)  # which also ends a call that waits

    def hook(unraised: Any) -> None:
        error = unraised.exc_value
        if not isinstance(error, KeyboardInterrupt | Ended):
            show(unraised)
            return
        forget()
        number = error.number if isinstance(error, Ended) else signal.SIGINT
        _thread.start_new_thread(send, (number,))  # `threading` takes locks, which the main thread may hold here

    sys.unraisablehook = hook
    try:
        yield
    finally:
        is_over = True
        sys.unraisablehook = show


def _leave_terminal() -> None:
    """Send what is printed nowhere if the terminal is gone, where printing it would raise amid the cleaning up."""
    for stream in (1, 2):
        try:
            termios.tcgetattr(stream)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
