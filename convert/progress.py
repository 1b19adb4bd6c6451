"""The protocol by which long jobs report their progress, without knowing whether anybody watches."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

Advance: TypeAlias = Callable[[int], Any]
"""A function that is told how many bytes were done since its last call, as in `advance(4096)`."""

Progress: TypeAlias = Callable[[str, int], AbstractContextManager[Advance]]
"""A function that begins a job of a name and a number of bytes; the job ends with the context.

```python
with progress("converting text_encoder", total) as advance:
    advance(len(block))
```
"""


@contextmanager
def no_progress(label: str, total: int) -> Iterator[Advance]:
    """Begin a job whose progress nobody is told: the default of every `progress`."""
    del label, total
    yield lambda done: None
