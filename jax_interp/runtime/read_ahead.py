"""Reading from disk before the data are needed, in threads."""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ResultT = TypeVar("ResultT")

DEPTH = 4
"""The number of reads in flight: a single one is limited by the core that decodes and converts, not by the disk."""


class ReadAhead(Generic[KeyT, ResultT]):
    """A callable that returns `read(key)` for keys in the order of `order`, pass after pass; some may be skipped.

    Meanwhile it reads the keys that follow the last one; at most `depth` results are kept.
    """

    def __init__(self, read: Callable[[KeyT], ResultT], order: Sequence[KeyT], depth: int = DEPTH):
        self._read, self._order, self._depth = read, order, depth
        self._place = {key: i for i, key in enumerate(order)}
        self._reads: dict[KeyT, Future[ResultT]] = {}
        self._threads = ThreadPoolExecutor(depth, thread_name_prefix="read-ahead")

    def __call__(self, key: KeyT) -> ResultT:
        """Return the result for `key`; raise what `read` raised."""
        place = self._place[key]
        window = self._order[place : place + self._depth]
        for passed_over in self._reads.keys() - set(window):
            self._reads.pop(passed_over).cancel()
        for following in window:
            if following not in self._reads:
                self._reads[following] = self._threads.submit(self._read, following)
        return self._reads.pop(key).result()

    def close(self) -> None:
        """Discard what was read ahead, and read no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._reads.clear()
