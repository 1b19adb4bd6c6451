"""How long jobs tell what they have done, without knowing whether anybody watches."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

Advance: TypeAlias = Callable[[int], Any]
"""Told the bytes done since the last call."""

Progress: TypeAlias = Callable[[str, int], AbstractContextManager[Advance]]
"""Begins a job of a name and a number of bytes; the job ends with the context."""


@contextmanager
def no_progress(label: str, total: int) -> Iterator[Advance]:
    """Tell nobody."""
    del label, total
    yield lambda done: None
