"""Delaying Ctrl-C until a moment at which a command can stop safely.

Python raises `KeyboardInterrupt` wherever the program happens to be: within a callback of the garbage collector, where
it is printed and lost; within the import of a library in C++, which then ends the process; within an event loop whose
other tasks continue after it. A command that works step by step therefore stops between two steps.
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
    """The exception that ends the block: a signal has arrived, and a safe point was reached."""


class SafePoints:
    """The object that `safe_points` yields, with which a block declares its safe points."""

    def __init__(self) -> None:
        self.noted: int | None = None
        """The number of the signal that arrived since the block began; None if there was none."""

    def reached(self) -> None:
        """End the block of `safe_points` here if a signal has arrived."""
        if self.noted is not None:
            raise _Stopped

    def within(self, progress: Progress) -> Progress:
        """Return `progress` with a safe point whenever it is told that something is done."""

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
    """Handle signals that have a handler (Ctrl-C always has one) only at the safe points of the block.

    What the handler raises is raised after the block, whose own clean-up is done by then. A second signal is handled
    at once. One that arrives after the last safe point changes nothing, because the work is done.
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
