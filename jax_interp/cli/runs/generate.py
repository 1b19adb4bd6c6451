"""The run of `jax-interp generate`, with its reports shown on the terminal."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer

from jax_interp.cli.terminal.console import be_quiet
from jax_interp.cli.terminal.progress import progress
from jax_interp.errors import Ended, explain
from jax_interp.pipeline.jobs.generate import generate
from jax_interp.pipeline.jobs.reporter import Advance, Reporter
from jax_interp.pipeline.requests.request import GenerateRequest, Job
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.terminal import show, tell

logger = logging.getLogger("jax_interp")


def run(request: GenerateRequest, *, show_seconds: bool) -> None:
    """Make the clips of `request`; `pipeline.jobs.generate.generate` lists what this raises."""
    generate(request, OnTerminal(show_seconds))


class OnTerminal(Reporter):
    """A reporter that shows results, progress and failures; with `show_seconds` also how long every stage took."""

    def __init__(self, show_seconds: bool):
        self._show_seconds = show_seconds
        self._is_first = True

    def joined(self, is_first: bool) -> None:
        self._is_first = is_first
        if not is_first:
            be_quiet()

    def already_there(self, job: Job) -> None:
        tell(f"{job.video}: already there, made with these settings")

    @contextmanager
    def making(self, job: Job) -> Iterator[Advance | None]:
        try:
            with progress(job.video.name) as task:

                def advance(pair: int, pairs: int, call: int, calls: int) -> None:
                    task.update(pair * calls + call, pairs * calls)

                yield advance
        except (KeyboardInterrupt, Ended) as stop:
            pairs = isinstance(job.settings, InterpolationSettings)
            next_time = "goes on with the first pair that was not finished" if pairs else "starts this clip again"
            tell(f"interrupted; the same command {next_time}")
            raise typer.Exit(explain(stop)[1]) from None

    def made(self, job: Job, record: Mapping[str, Any]) -> None:
        frames, pairs = record["frames"], record["pairs"]
        facts = {"video": str(job.video), "record": str(job.record), "frames": frames, "pairs": pairs}
        given = record["settings"].get("num_input_frames")
        origin = f"{pairs} pair(s)" if given is None else f"{given} given frame(s)"
        show(f"{job.video}: {frames} frames from {origin}", **facts)
        if self._show_seconds:
            show("  " + ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in record["seconds"].items()))

    def failed(self, job: Job, error: Exception) -> None:
        # An error, so that --quiet leaves it; all processes meet it, and one of them says so.
        if self._is_first:
            logger.error("%s: %s", job.video, explain(error)[0])
