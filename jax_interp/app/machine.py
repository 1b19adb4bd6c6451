"""What is said of the machine: the checks of `doctor`, and the memory that the networks take, in words."""

import re
from pathlib import Path
from typing import Any

from jax_interp.app.asked import Asked
from jax_interp.app.settings import AppSettings
from jax_interp.byte_sizes import gib
from jax_interp.components import TransformerType
from jax_interp.errors import JaxInterpError
from jax_interp.pipeline.jobs.generate import open_networks
from jax_interp.pipeline.memory.placing import choose, placements_in
from jax_interp.pipeline.memory.plan import Planner, describe
from jax_interp.pipeline.requests.request import Job
from jax_interp.pipeline.settings import RunSettings
from jax_interp.runtime.checkpoint.finding import find_transformer
from jax_interp.runtime.doctor import examine
from jax_interp.runtime.hardware import host_memory

_FOLDERS = re.compile(r"(?<![\w.])(/[\w.@+-]+)+/(?=[\w.@+-])")


def checks() -> list[tuple[str, str, str, str]]:
    """Return the rows of what `doctor` finds: name, status, what was found, what to do. Folders are not told."""
    return [
        (check.name, check.status, _FOLDERS.sub("", check.value), _FOLDERS.sub("", check.advice)) for check in examine()
    ]


def has_transformer(app: AppSettings, kind: TransformerType) -> bool:
    """Tell whether the transformer of a pipeline is there, complete."""
    try:
        find_transformer(app.networks.checkpoint_dir, kind, app.networks.folder("diffusion_transformer"))
    except JaxInterpError:
        return False
    return True


class MemoryPlans:
    """The plans of memory that jobs are made by; each kind of job is planned once, and nothing is loaded for it."""

    def __init__(self, app: AppSettings, budget: int | None):
        """`budget` is the GPU memory that the server may use, in bytes; None where there is no GPU."""
        self._app, self._budget = app, budget
        self._planners: dict[Any, Planner] = {}

    def of_job(self, asked: Asked, job: Job) -> str:
        """Return a sentence on what a job will take.

        Raises:
            UsageError, OutOfMemory: no plan fits into the memory.
            CheckpointError: networks are missing.
        """
        planner, settings = self._planner(asked, job), job.settings
        if self._budget is None:
            plan = planner.plan(placements_in(self._app.memory, planner))
            return f"It takes up to {gib(plan.peak)} of this machine's memory, as no GPU was found."
        plan = choose(self._app.memory, planner, self._budget, settings.num_frame_pairs)
        return f"It takes up to {gib(plan.process_peak)} of {gib(self._budget)} of GPU memory: {describe(plan)}."

    def in_words(self) -> list[str]:
        """Return sentences on what a job with the default settings takes, on the GPU and at the least."""
        app = self._app
        asked = Asked(steps=app.num_steps, pipeline="interpolate" if has_transformer(app, _FIRST) else "continue")
        try:
            job = asked.job(Path("job"), (), app)
            planner = self._planner(asked, job)
            said = self.of_job(asked, job)
        except JaxInterpError as error:
            return [str(error)]
        resident, smallest, (free, _) = planner.plan({}), planner.smallest(), host_memory()
        return [
            f"At {app.width}x{app.height} pixels the networks take {gib(resident.process_peak)} of GPU memory if all"
            " of them stay there.",
            f"The least that they can do with is {gib(smallest.process_peak)}: {describe(smallest)}; then"
            f" {gib(smallest.host)} of parameters wait in host memory, of which {gib(free)} are free.",
            f"A job of this server with the form's settings: {said}",
        ]

    def _planner(self, asked: Asked, job: Job) -> Planner:
        key = asked.pipeline, asked.precision, asked.upsample, asked.guidance, _sizes(job.settings)
        planner = self._planners.get(key)
        if planner is None:  # several threads may come here at once, and each may empty what another has filled
            if len(self._planners) >= _MOST_PLANNERS:
                self._planners.clear()
            planner = open_networks(asked.request(job, self._app)).planner(job.settings)
            self._planners[key] = planner
        return planner


_FIRST: TransformerType = "WorldInterpolator"
_MOST_PLANNERS = 100


def _sizes(settings: RunSettings) -> tuple[int, int, int]:
    return settings.height, settings.width, settings.num_video_frames
