"""The networks of a program that runs one request after the other: they stay open, and loaded, between requests."""

from dataclasses import replace
from typing import Any

from jax_interp.pipeline.base import Pipeline
from jax_interp.pipeline.jobs.kinds import kind_of
from jax_interp.pipeline.memory.available import available
from jax_interp.pipeline.memory.placing import limit_process
from jax_interp.pipeline.memory.settings import MemorySettings
from jax_interp.pipeline.requests.request import GenerateRequest


class KeptNetworks:
    """The pipeline of the last request, which the next request takes over if it asks for the same networks.

    One pipeline is kept at a time, because two would seldom fit into the memory of a GPU.
    """

    def __init__(self) -> None:
        self._asked: tuple[Any, ...] | None = None
        self._pipeline: Pipeline | None = None
        self._is_limited = False
        self.free: int | None = None
        """The bytes of GPU memory that plans may use, as `limited` found them; None without a GPU."""

    def matching(self, request: GenerateRequest) -> Pipeline | None:
        """Return the kept pipeline if `request` asks for its networks and guardrails; None otherwise."""
        return self._pipeline if self._asked == _networks_of(request) else None

    def keep(self, request: GenerateRequest, pipeline: Pipeline) -> Pipeline:
        """Keep `pipeline`, which was opened for `request`, and unload the one before; return `pipeline`."""
        self.drop()
        self._asked, self._pipeline = _networks_of(request), pipeline
        return pipeline

    def drop(self) -> None:
        """Keep nothing any more: after an error that nobody expected, networks are opened anew."""
        if self._pipeline is not None:
            self._pipeline.unload()
        self._asked = self._pipeline = None

    def limited(self, memory: MemorySettings) -> MemorySettings:
        """Limit the process to `memory` at the first request; return what plans are made with.

        At later requests that is what was free at the first one: the process itself holds the memory that it reserved
        then, which the driver does not count as free.
        """
        if not self._is_limited:
            limit_process(memory)
            self._is_limited, self.free = True, available(memory)
            return memory
        return memory if memory.budget or not self.free else replace(memory, budget=self.free)


def _networks_of(request: GenerateRequest) -> tuple[Any, ...]:
    """Return what of `request` decides which networks are opened, and how."""
    upsamples = any(job.upsampler is not None for job in request.jobs)
    return request.networks, request.guardrails, kind_of(request.jobs[0].settings), upsamples
