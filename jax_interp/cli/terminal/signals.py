"""Ending a command on SIGTERM and SIGHUP as on Ctrl-C: by an exception, so that no half-written files remain.

A signal may arrive while Python runs code that cannot raise: a finalizer, or a callback of the garbage collector, of
which JAX has one. Python would print the exception, and the command would continue as if nothing had happened.
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
"""Seconds in which further signals count as the same request, because service managers send both at once and cleaning
up takes a moment. A signal that arrives later is handled again."""

_SOON = 0.05
"""Seconds until a signal whose exception was lost is sent again."""


@contextmanager
def raised() -> Iterator[None]:
    """Make the signals raise `Ended` in the main thread during the block; ignored ones (by `nohup`) stay ignored.

    Where the exception cannot be raised it is raised soon after, and so is the `KeyboardInterrupt` of Ctrl-C.
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
    """During the block, send a signal whose exception was lost to the main thread again, after calling `forget`."""
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
    """Redirect output to nowhere if the terminal is gone, where printing would raise during the clean-up."""
    for stream in (1, 2):
        try:
            termios.tcgetattr(stream)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
