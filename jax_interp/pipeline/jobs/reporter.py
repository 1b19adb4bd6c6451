"""The reports of a run on how far it is: only failures are logged, unless a caller shows more."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jax_interp.errors import explain
from jax_interp.pipeline.requests.request import Job

logger = logging.getLogger("jax_interp")

Advance = Callable[[int, int, int, int], None]
"""A function that is called with (pair, pairs, network calls done of the pair's batch, network calls of a batch)."""


class Reporter:
    """The receiver of what `generate` reports; a subclass overrides the methods whose reports it shows."""

    def joined(self, is_first: bool) -> None:
        """Report that the processes of the run have found one another; only the first of them has something to show."""

    def already_there(self, job: Job) -> None:
        """Report that a clip of a batch was made before, with these settings."""

    @contextmanager
    def making(self, job: Job) -> Iterator[Advance | None]:
        """Surround the making of a clip; yield the function that is told how far it is, or None."""
        yield None

    def pair_made(self, job: Job, frames: UInt8[np.ndarray, "F Y X 3"]) -> None:
        """Report that the next pair is there, as the network made it; also those that an interrupted run has left."""

    def made(self, job: Job, record: Mapping[str, Any]) -> None:
        """Report that a clip is complete; `record` is its run record."""

    def failed(self, job: Job, error: Exception) -> None:
        """Report that a clip of a batch was not made; the run goes on with the next one."""
        logger.error("%s: %s", job.video, explain(error)[0])


SILENT = Reporter()
