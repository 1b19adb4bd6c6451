"""How much room there is for uploads: what lies there already, and what is on its way."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jax_interp.app.uploads import remove_unfinished
from jax_interp.files.below import size_below

_KEPT = 10
"""How many of the largest uploads may lie there before jobs are made of them."""


class UploadRoom:
    """The room in the folder `uploads`, in which an upload may have `most_bytes`. For use in one thread."""

    def __init__(self, uploads: Path, most_bytes: int):
        self._uploads, self._room = uploads, _KEPT * most_bytes
        self._coming: list[int] = []

    def has(self, size: int) -> bool:
        """Tell whether there is room for an upload of `size` bytes beside those that lie there or are on their way."""
        return size_below(self._uploads) + sum(self._coming) + size <= self._room

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Keep room while an upload comes in; what is left of one that was broken off is removed."""
        self._coming.append(size)
        try:
            yield
        finally:
            self._coming.remove(size)
            if not self._coming:
                remove_unfinished(self._uploads)
