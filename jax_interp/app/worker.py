"""The one worker that owns the GPUs: it makes the jobs of the queue one after the other, by the code of `generate`."""

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from jax_interp.app.results import JobFolder, finish, prune
from jax_interp.app.settings import AppSettings
from jax_interp.app.store import JobEntry, JobStore
from jax_interp.app.uploads import remove_abandoned
from jax_interp.errors import Blocked, JaxInterpError, explain
from jax_interp.pipeline.jobs.generate import generate_keeping
from jax_interp.pipeline.jobs.kept_networks import KeptNetworks
from jax_interp.pipeline.jobs.reporter import Advance, Reporter
from jax_interp.pipeline.requests.request import Job

logger = logging.getLogger("jax_interp")

_NOTE_SECONDS = 0.5
"""The least time between two notes of how far a job is."""
_LOOK_SECONDS = 600.0
"""How often old results are looked for where nothing else happens."""


class Cancelled(Exception):
    """The owner of the job wants its end."""


class Stopping(Exception):
    """The server ends; the job goes on when it starts again."""


class Worker:
    """A thread that takes jobs from `store` until `stop`. The networks of the last job stay loaded for the next."""

    def __init__(self, store: JobStore, app: AppSettings):
        self._store, self._app = store, app
        self._kept = KeptNetworks()
        self._kept.limited(app.memory)  # before JAX starts, which a plan does too
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)

    @property
    def budget(self) -> int | None:
        """The GPU memory that jobs may use, in bytes; None where there is no GPU."""
        return self._kept.free

    def start(self) -> None:
        """Begin; jobs that an earlier server left unfinished come first."""
        for entry in self._store.requeue_interrupted():
            logger.info("job %s: goes on after the server ended", entry.id)
        self._thread.start()

    def wake(self) -> None:
        """Say that a job may be waiting."""
        self._wake.set()

    def stop(self, seconds: float = 10.0) -> bool:
        """Ask the thread to end after the next network call, and wait for up to `seconds`; return whether it has."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            entry = self._store.take_next()
            if entry is None:
                self._tidy()
                self._wake.wait(_LOOK_SECONDS)
                continue
            try:
                self._make(entry)
            except Stopping:
                return
            self._tidy()

    def _tidy(self) -> None:
        """Remove what is kept no longer."""
        try:
            prune(self._store, self._app.jobs_folder, self._app.limits, time.time())
            remove_abandoned(self._app.uploads_folder)
        except OSError as error:
            logger.warning("old results and uploads cannot be removed: %s", error)

    def _make(self, entry: JobEntry) -> None:
        """Make one job, and record how it ended; whatever it raises, the next job has its turn."""
        folder = JobFolder(self._app.jobs_folder / entry.id)
        watch = _Watch(entry, folder, self._store, self._stopping)
        try:
            asked = entry.settings
            job = asked.job(folder.path, folder.input_files(entry), self._app)
            generate_keeping(self._kept, asked.request(job, self._app), watch)
            self._store.note(entry.id, message="packing")
            facts = finish(folder, entry)
            self._store.note(entry.id, **watch.speeds())
            self._store.end(entry.id, "done", facts=json.dumps(facts), share=1.0)
            folder.remove_frames()
            logger.info("job %s: done", entry.id)
        except Stopping:
            raise
        except Cancelled:
            folder.remove_work()
            self._store.end(entry.id, "cancelled", previews=0)
            logger.info("job %s: cancelled", entry.id)
        except Blocked as blocked:
            folder.remove_work()
            self._store.end(entry.id, "blocked", _why_blocked(blocked), previews=0)
            logger.warning("job %s: %s", entry.id, blocked)
        except BaseException as error:
            if self._stopping.is_set():  # it is the end of the server that made it fail; the finished pairs stay
                raise Stopping from error
            if not isinstance(error, JaxInterpError | OSError):
                logger.exception("job %s", entry.id)
                self._kept.drop()
            folder.remove_work()
            message = self._app.without_folders(folder.without_paths(explain(error)[0]))
            self._store.end(entry.id, "failed", message, previews=0)
            logger.warning("job %s: failed: %s", entry.id, explain(error)[0])


class _Watch(Reporter):
    """Records how far a job is, keeps previews, and ends it where it is cancelled."""

    def __init__(self, entry: JobEntry, folder: JobFolder, store: JobStore, stopping: threading.Event):
        self._entry, self._folder, self._store, self._stopping = entry, folder, store, stopping
        self._begun = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int, int] | None = None
        self._noted = 0.0
        self._shown = 0

    @contextmanager
    def making(self, job: Job) -> Iterator[Advance | None]:
        yield self._advance

    def made(self, job: Job, record: Mapping[str, Any]) -> None:
        self._store.note(self._entry.id, pair=record["pairs"], pairs=record["pairs"])

    def pair_made(self, job: Job, frames: np.ndarray) -> None:
        self._shown += 1
        self._folder.add_preview(self._shown, frames)
        self._store.note(self._entry.id, previews=self._shown, pair=self._shown)
        self._end_if_asked()

    def _advance(self, pair: int, pairs: int, call: int, calls: int) -> None:
        now, done = time.monotonic(), pair * calls + call
        self._first = self._first or (now, done)
        self._last = now, done, pairs * calls
        if now - self._noted >= _NOTE_SECONDS:
            self._noted = now
            self._store.note(self._entry.id, pairs=pairs, share=done / (pairs * calls))
            self._end_if_asked()

    def _end_if_asked(self) -> None:
        if self._stopping.is_set():
            raise Stopping
        current = self._store.get(self._entry.id)
        if current is None or current.is_cancelled:
            raise Cancelled

    def speeds(self) -> dict[str, float]:
        """Return the columns of what was measured; none if too little was, as where the input's frames are enough."""
        if self._first is None or self._last is None or self._last[1] <= self._first[1] or not self._entry.work:
            return {}
        seconds, share = self._last[0] - self._first[0], (self._last[1] - self._first[1]) / self._last[2]
        speeds = {"work_seconds": seconds / (share * self._entry.work)}
        return speeds | {"start_seconds": self._first[0] - self._begun}


def _why_blocked(blocked: Blocked) -> str:
    """Return the category and nothing else of what the guardrails said; the log has the rest."""
    category = blocked.verdict.category
    return f"category {category}" if category else blocked.verdict.reason
