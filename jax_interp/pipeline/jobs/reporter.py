"""Who hears how far a run is: nobody but the log, unless a caller shows it."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jax_interp.errors import explain
from jax_interp.pipeline.requests.request import Job

logger = logging.getLogger("jax_interp")

Advance = Callable[[int, int, int, int], None]
"""Called with (pair, pairs, network calls done within the pair's batch, network calls in all)."""


class Reporter:
    """What `generate` tells its caller; override what is to be shown."""

    def joined(self, is_first: bool) -> None:
        """The processes of the run have found one another; of several only the first one has something to say."""

    def already_there(self, job: Job) -> None:
        """A clip of a batch was made before, with these settings."""

    @contextmanager
    def making(self, job: Job) -> Iterator[Advance | None]:
        """Around the making of a clip; yields what hears how far it is."""
        yield None

    def made(self, job: Job, record: Mapping[str, Any]) -> None:
        """A clip is complete; `record` is its run record."""

    def failed(self, job: Job, error: Exception) -> None:
        """A clip of a batch was not made, and the run goes on with the next."""
        logger.error("%s: %s", job.video, explain(error)[0])


SILENT = Reporter()
