"""Ctrl-C that waits for a moment at which a command can stop.

Python raises `KeyboardInterrupt` wherever the program happens to be: within a callback of the garbage collector, where
it is printed and lost; within the import of a library in C++, which then ends the process; within an event loop whose
other tasks go on after it. A command that works step by step stops between two steps instead.
"""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

logger = logging.getLogger("jax_interp")

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Advance = Callable[[int], Any]
Progress = Callable[[str, int], AbstractContextManager[Advance]]


class _Stopped(Exception):
    """A signal was noted, and a safe point reached."""


class SafePoints:
    """What `safe_points` yields."""

    def __init__(self) -> None:
        self.noted: int | None = None
        """The signal that came since, if one did."""

    def reached(self) -> None:
        """End the block of `safe_points` here if a signal came."""
        if self.noted is not None:
            raise _Stopped

    def within(self, progress: Progress) -> Progress:
        """`progress` with a safe point whenever it is told that something is done."""

        @contextmanager
        def begin(label: str, total: int) -> Iterator[Advance]:
            with progress(label, total) as advance:

                def step(done: int) -> None:
                    advance(done)
                    self.reached()

                yield step

        return begin


@contextmanager
def safe_points() -> Iterator[SafePoints]:
    """Within the block a signal that has a handler (Ctrl-C always has one) is handled at the next safe point only.

    What the handler raises is raised behind the block, whose own clean-up is done by then. A second signal is handled
    at once. One that comes after the last safe point changes nothing: the work is done.
    """
    points = SafePoints()
    before: dict[int, Callable[[int, FrameType | None], Any]] = {
        number: handler for number in NUMBERS if callable(handler := signal.getsignal(number))
    }

    def note(number: int, frame: FrameType | None) -> None:
        if points.noted is not None:
            before[number](number, frame)
        points.noted = number

    for number in before:
        signal.signal(number, note)
    try:
        yield points
        return
    except _Stopped:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    stopped_by = points.noted
    assert stopped_by is not None
    logger.warning("stopped: what was not complete is removed; run the same command again to go on")
    before[stopped_by](stopped_by, None)
