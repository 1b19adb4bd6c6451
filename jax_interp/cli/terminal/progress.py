"""The progress of long work: a bar on a terminal, a line now and then elsewhere, events for programs."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from jax_interp import terminal
from jax_interp.terminal import one_line

FIRST_LINE, NEXT_LINES = 10.0, 30.0
"""Seconds until the first line where there is no terminal, and seconds between the lines that follow."""

EVENT_SECONDS = 0.5
"""Seconds between two events of one task; its last one comes at once."""


@dataclass
class Task:
    """The progress of something that takes long; `show` is called with it whenever it changes."""

    label: str
    """What is being done; any text."""
    total: int | None
    """The number of steps or bytes in all; None if it is not known yet."""
    show: Callable[["Task"], Any]
    done: int = 0

    def update(self, done: int, total: int | None = None) -> None:
        """Set the number of steps or bytes done, and their total if it is given."""
        self.done, self.total = done, self.total if total is None else total
        self.show(self)

    def advance(self, count: int, label: str | None = None) -> None:
        """Add `count` to the steps or bytes done, and set the label if it is given."""
        self.label = self.label if label is None else label
        self.update(self.done + count)


@contextmanager
def progress(label: str, total: int | None = None, *, in_bytes: bool = False) -> Iterator[Task]:
    """Show the progress of the block's work until it ends; yield the `Task` that the block updates."""
    if terminal.is_quiet():
        yield Task(label, total, lambda task: None)
    elif terminal.shows_events():
        yield Task(label, total, Events(in_bytes))
    elif terminal.is_terminal(sys.stderr):
        with _bar(label, total, in_bytes) as show:
            yield Task(label, total, show)
    else:
        yield Task(label, total, Lines(in_bytes))


@contextmanager
def byte_progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show work in bytes as `convert.progress.Progress` defines it; yield a callable that takes the bytes done."""
    with progress(label, total, in_bytes=True) as task:
        yield task.advance


class Lines:
    """A display of one line at a time, printed seldom enough that a log stays readable."""

    def __init__(self, in_bytes: bool, clock: Callable[[], float] = time.monotonic):
        self._in_bytes, self._clock = in_bytes, clock
        self._left = TimeLeft(clock)
        self._next = clock() + FIRST_LINE

    def __call__(self, task: Task) -> None:
        left = self._left.seconds(task)
        if self._clock() < self._next or task.done == task.total:
            return
        self._next = self._clock() + NEXT_LINES
        amount = self._words(task.done)
        if task.total:
            amount += f" of {self._words(task.total)} ({100 * task.done // task.total} %)"
        if left is not None:
            amount += f", {timedelta(seconds=round(left))} left"
        terminal.tell(one_line(f"{task.label}: {amount}"))

    def _words(self, amount: int) -> str:
        from rich.filesize import decimal

        return decimal(amount) if self._in_bytes else str(amount)


class Events:
    """A display for programs: events called "progress", `EVENT_SECONDS` apart."""

    def __init__(self, in_bytes: bool, clock: Callable[[], float] = time.monotonic):
        self._in_bytes, self._clock = in_bytes, clock
        self._left = TimeLeft(clock)
        self._next = clock()

    def __call__(self, task: Task) -> None:
        left = self._left.seconds(task)
        if self._clock() < self._next and task.done != task.total:
            return
        self._next = self._clock() + EVENT_SECONDS
        terminal.emit_if_possible(
            "progress",
            label=one_line(task.label),
            done=task.done,
            total=task.total,
            unit="bytes" if self._in_bytes else "steps",
            elapsed_seconds=round(self._left.elapsed, 3),
            remaining_seconds=None if left is None else round(left, 3),
        )


class TimeLeft:
    """An estimate from what was done so far; what was done before (`Task.done` at first sight) counts for nothing."""

    def __init__(self, clock: Callable[[], float]):
        self._clock, self._begun, self._before = clock, clock(), None

    @property
    def elapsed(self) -> float:
        """Seconds since the work began."""
        return self._clock() - self._begun

    def seconds(self, task: Task) -> float | None:
        """Return the seconds that are left; None if that cannot be told."""
        if self._before is None:
            self._before = task.done
        if task.total is None or task.done <= self._before:
            return None
        return self.elapsed * (task.total - task.done) / (task.done - self._before)


@contextmanager
def _bar(label: str, total: int | None, in_bytes: bool) -> Iterator[Callable[[Task], None]]:
    """Show a bar that disappears at the end; what is printed on standard error meanwhile appears above it."""
    from rich import progress
    from rich.console import Console

    counts = (
        (progress.DownloadColumn(), progress.TransferSpeedColumn())
        if in_bytes
        else (progress.MofNCompleteColumn(), progress.TimeElapsedColumn())
    )
    description = progress.TextColumn("{task.description}", markup=False)
    console = Console(
        file=sys.stderr,
        force_terminal=True,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        markup=False,
        emoji=False,
        highlight=False,
    )
    with progress.Progress(
        *(description, progress.BarColumn(), *counts, progress.TimeRemainingColumn()),
        console=console,
        transient=True,
        redirect_stdout=False,
    ) as shown:
        bar = shown.add_task(one_line(label), total=total)
        yield lambda task: shown.update(bar, completed=task.done, total=task.total, description=one_line(task.label))
