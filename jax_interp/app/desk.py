"""What a user can ask of the server, by the page and by the API alike: every job is its owner's alone."""

import logging
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jax_interp.app.asked import Asked
from jax_interp.app.estimate import Foreseen, foresee, in_words, loading_seconds, seconds_of, waiting_seconds
from jax_interp.app.machine import MemoryPlans
from jax_interp.app.results import JobFolder
from jax_interp.app.settings import AppSettings
from jax_interp.app.store import JobEntry, JobStore, owner_of
from jax_interp.app.uploads import clip_name, printable, store_inputs, take_uploads
from jax_interp.errors import JaxInterpError, UsageError
from jax_interp.runtime.checkpoint.finding import has_component

logger = logging.getLogger("jax_interp")

_ID = re.compile("[0-9a-f]{32}")
NO_SUCH_JOB = "there is no such job: it is another's, was removed, or never was"


class Desk:
    """The operations on jobs. Users are told apart by a secret token, which the server does not keep."""

    def __init__(self, app: AppSettings, store: JobStore, wake: Callable[[], None], budget: int | None = None):
        """`wake` tells the worker that a job waits; `budget` is as in `machine.MemoryPlans`."""
        self.app, self.memory = app, MemoryPlans(app, budget)
        self._store, self._wake = store, wake
        self._has_upsampler = has_component(app.networks.checkpoint_dir, "prompt_upsampler")

    def plan(self, values: Any, files: Any) -> dict[str, Any]:
        """Return what a job would take, as JSON values.

        Raises:
            UsageError, MediaError: the settings or the files cannot work.
        """
        asked, found, foreseen = self._foresee(values, files)
        with self._plainly(found):
            memory = self.memory.of_job(asked, foreseen.job)
        measured, waiting = self._store.measured(), self._store.waiting()
        return {
            "pipeline": asked.pipeline,
            "pairs": foreseen.pairs,
            "fewer_with_cuts": foreseen.at_most,
            "given_frames": foreseen.given,
            "left_out_frames": foreseen.left_out,
            "frames": foreseen.frames,
            "rate": round(foreseen.rate, 4),
            "seconds": round(foreseen.seconds, 3),
            "size": foreseen.size,
            "memory": memory,
            "working_seconds": seconds_of(foreseen.work, asked, measured),
            "loading_seconds": loading_seconds(self._store),
            "jobs_ahead": len(waiting),
            "waiting_seconds": waiting_seconds(waiting, measured),
        }

    def submit(self, owner: str, values: Any, files: Any) -> JobEntry:
        """Put a job into the queue and return its entry; raises what `plan` does, and `UsageError` if too many wait."""
        asked, found, foreseen = self._foresee(values, files)
        id = secrets.token_hex(16)
        folder = self.folder(id)
        try:
            names = store_inputs(found, folder)
            self._store.add(
                *(id, owner_of(owner), clip_name(found), asked, names, foreseen.work), self.app.limits.waiting
            )
        except BaseException:
            folder.remove()
            raise
        self._wake()
        logger.info("job %s: asked for", id)
        return self.find(owner, id)

    def find(self, owner: str, id: Any) -> JobEntry:
        """Return a job of `owner`; raises `UsageError` if there is none of this id."""
        is_one = isinstance(id, str) and _ID.fullmatch(id)
        entry = self._store.get(id, owner_of(owner)) if is_one else None
        if entry is None:
            raise UsageError(NO_SUCH_JOB)
        return entry

    def latest(self, owner: str) -> list[JobEntry]:
        """Return the latest jobs of `owner`, the newest first."""
        return self._store.of_owner(owner_of(owner))

    def cancel(self, owner: str, id: Any) -> JobEntry:
        """Cancel a job; one that is over stays as it is. Raises `UsageError` if there is none of this id."""
        entry = self._store.ask_to_cancel(self.find(owner, id).id, owner_of(owner))
        if entry is None:
            raise UsageError(NO_SUCH_JOB)
        return entry

    def folder(self, id: str) -> JobFolder:
        return JobFolder(self.app.jobs_folder / id)

    def progress(self, entry: JobEntry) -> dict[str, Any]:
        """Return how far a job is, as JSON values."""
        measured = self._store.measured()
        left = seconds_of(entry.work * (1 - entry.share), entry.settings, measured) if entry.is_open else None
        return {
            "job": entry.id,
            "name": entry.name,
            "state": entry.state,
            "message": entry.message,
            "pair": entry.pair,
            "pairs": entry.pairs,
            "share": round(entry.share, 4),
            "jobs_ahead": len(self._store.ahead_of(entry)) if entry.state == "queued" else 0,
            "seconds_left": left,
            "is_being_cancelled": entry.state == "running" and bool(entry.is_cancelled),
        }

    def results(self, entry: JobEntry) -> dict[str, str]:
        """Return the addresses of what a finished job has, below that of the server; empty for other jobs."""
        if entry.state != "done":
            return {}
        folder = self.folder(entry.id)
        files = {"video": folder.video, "record": folder.record, "frames": folder.archive}
        files["comparison"] = folder.comparison
        return {name: f"/results/{entry.id}/{path.name}" for name, path in files.items() if path.is_file()}

    def _filled(self, values: Any) -> Any:
        """Return settings with what they lack as the forms begin, where that is not `Asked`'s own default."""
        if not isinstance(values, dict):
            return values
        defaults: dict[str, Any] = {"steps": self.app.num_steps}
        if values.get("pipeline") == "continue":
            defaults |= {"guidance": 7.0, "seed": 1}
        else:
            defaults["frame_stride"] = self.app.frame_stride
        return defaults | values

    def _foresee(self, values: Any, files: Any) -> tuple[Asked, list[Path], Foreseen]:
        asked = Asked.parse(self._filled(values)).settled(has_upsampler=self._has_upsampler)
        found = take_uploads(files, self.app.uploads_folder, self.app.limits.upload_bytes)
        with self._plainly(found):
            return asked, found, foresee(asked, tuple(found), self.app)

    @contextmanager
    def _plainly(self, files: list[Path]) -> Iterator[None]:
        """Have errors of the block name `files`, and all that is the server's, without their folders."""
        try:
            yield
        except JaxInterpError as error:
            text = str(error)
            for file in files:
                text = text.replace(str(file), printable(file.name))
            error.args = (self.app.without_folders(text),)
            raise


def plan_in_words(plan: dict[str, Any]) -> list[str]:
    """Return the sentences that tell a user what a job will take."""
    at_most = "at most " if plan["fewer_with_cuts"] else ""
    made = "the clip as a whole" if plan["pipeline"] == "continue" else f"{at_most}{plan['pairs']} pair(s)"
    lines = [
        f"{plan['given_frames']} frames in, {plan['frames']} frames out: {plan['seconds']:.2f} s at"
        f" {plan['rate']:g} frames a second, {plan['size']} pixels.",
        f"The networks make {made}. {plan['memory']}",
    ]
    if plan["left_out_frames"]:
        lines.insert(
            1,
            f"The last {plan['left_out_frames']} frame(s) fill no pair and are left out; a smaller stride, below"
            ' "More", uses them.',
        )
    if plan["working_seconds"] is None:
        lines.append("How long that takes is not known yet: no job of this kind has run on this machine.")
    else:
        loading = plan["loading_seconds"] or 0.0
        lines.append(
            f"By the speed measured on this machine about {in_words(plan['working_seconds'])}, and up to"
            f" {in_words(loading)} for loading."
        )
    if plan["jobs_ahead"]:
        waits = plan["waiting_seconds"]
        about = "" if waits is None else f", about {in_words(waits)}"
        lines.append(f"{plan['jobs_ahead']} job(s) come before{about}.")
    return lines
