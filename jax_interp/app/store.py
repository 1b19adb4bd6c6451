"""The record of jobs: a small SQLite file that outlives the server, so that nothing that was asked for is lost."""

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

from jax_interp.app.asked import Asked
from jax_interp.errors import JaxInterpError, UsageError

State: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled", "blocked"]
OPEN = ("queued", "running")
"""The states of a job that is not over."""

MOST_STARTS = 3
"""How often a job is begun: one during which the server died so often is not begun again."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    asked TEXT NOT NULL,
    inputs TEXT NOT NULL,
    work REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued',
    message TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    starts INTEGER NOT NULL DEFAULT 0,
    is_cancelled INTEGER NOT NULL DEFAULT 0,
    pair INTEGER NOT NULL DEFAULT 0,
    pairs INTEGER NOT NULL DEFAULT 0,
    share REAL NOT NULL DEFAULT 0,
    previews INTEGER NOT NULL DEFAULT 0,
    start_seconds REAL,
    work_seconds REAL,
    facts TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS jobs_of_owner ON jobs (owner, number);
CREATE INDEX IF NOT EXISTS jobs_in_state ON jobs (state, number);
"""


@dataclass(frozen=True)
class JobEntry:
    """What is recorded of a job."""

    number: int
    """Its place in the order in which jobs were asked for."""
    id: str
    """128 random bits in hexadecimal digits, which name the job's folder."""
    owner: str
    """The SHA-256 of the owner's token."""
    name: str
    """What the user calls the clip: the name of the uploaded file, made printable."""
    asked: str
    """`Asked`, as JSON."""
    inputs: str
    """The names of the files in the job's folder of inputs, as a JSON list."""
    work: float
    """How much there is to compute (`estimate.work_of`)."""
    state: State
    message: str
    """Why the job failed or was blocked."""
    created: float
    started: float | None
    ended: float | None
    starts: int
    is_cancelled: int
    """Whether its owner has asked for its end."""
    pair: int
    """The pairs that are finished."""
    pairs: int
    """All pairs, 0 as long as it is not known."""
    share: float
    """How much of all network calls is done, from 0 to 1."""
    previews: int
    """The small pictures of finished pairs that can be shown."""
    start_seconds: float | None
    """How long loading and compiling took before the first network call was done."""
    work_seconds: float | None
    """Seconds of network calls for a unit of work."""
    facts: str
    """What is known of the results, as a JSON object."""

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def settings(self) -> Asked:
        return Asked.of_text(self.asked)

    @property
    def input_names(self) -> list[str]:
        return json.loads(self.inputs)

    @property
    def known(self) -> dict[str, Any]:
        return json.loads(self.facts)


_COLUMNS = tuple(field.name for field in fields(JobEntry))


def owner_of(token: str) -> str:
    """Return what the record has of an owner's token, which itself is not kept."""
    return hashlib.sha256(token.encode()).hexdigest()


class JobStore:
    """The jobs in the file `path`. All methods may be called from any thread."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time):
        self._clock = clock
        self._lock = threading.RLock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        try:
            self._run("PRAGMA journal_mode = WAL")
            self._run("PRAGMA synchronous = NORMAL")
            self._database.executescript(_SCHEMA)
            self._run(f"SELECT {', '.join(_COLUMNS)} FROM jobs LIMIT 1")
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise JaxInterpError(
                f"{path}: is not the record of jobs of this version ({error}); remove the folder, or give another one"
                " with --data-dir"
            ) from error

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def add(
        self, id: str, owner: str, name: str, asked: Asked, inputs: list[str], work: float, most_waiting: int
    ) -> None:
        """Record a new job, which waits for its turn.

        Raises:
            UsageError: `most_waiting` jobs wait already.
        """
        with self._lock:
            if self.count("queued") >= most_waiting:
                raise UsageError(f"{most_waiting} jobs are waiting, which is the most; try again later")
            self._run(
                "INSERT INTO jobs (id, owner, name, asked, inputs, work, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
                *(id, owner, name, asked.as_json(), json.dumps(inputs), work, self._clock()),
            )

    def get(self, id: str, owner: str | None = None) -> JobEntry | None:
        """Return the job `id`; None if there is none, or, where `owner` is given, if it is another's."""
        found = self._find("id = ?", id)
        return found[0] if found and owner in (None, found[0].owner) else None

    def of_owner(self, owner: str, most: int = 20) -> list[JobEntry]:
        """Return the latest jobs of `owner`, the newest first."""
        return self._find("owner = ? ORDER BY number DESC LIMIT ?", owner, most)

    def count(self, state: State) -> int:
        return self._run("SELECT count(*) FROM jobs WHERE state = ?", state).fetchone()[0]

    def ahead_of(self, entry: JobEntry) -> list[JobEntry]:
        """Return the jobs that have their turn before `entry`, the running one first."""
        return self._find(
            "(state = 'running' OR (state = 'queued' AND number < ?)) AND id != ?"
            " ORDER BY state = 'running' DESC, number",
            *(entry.number, entry.id),
        )

    def waiting(self) -> list[JobEntry]:
        """Return the jobs that are not over, the running one first."""
        return self._find("state IN ('running', 'queued') ORDER BY state = 'running' DESC, number")

    def take_next(self) -> JobEntry | None:
        """Return the job whose turn it is, as running from now on; None if none waits."""
        with self._lock:
            found = self._find("state = 'queued' ORDER BY number LIMIT 1")
            if not found:
                return None
            entry = found[0]
            self._run(
                "UPDATE jobs SET state = 'running', started = ?, starts = starts + 1 WHERE id = ?",
                *(self._clock(), entry.id),
            )
            return self.get(entry.id)

    def note(self, id: str, **values: Any) -> None:
        """Record how far a job is; the names are those of the columns."""
        assert values.keys() <= set(_COLUMNS)
        if not values:
            return
        self._run(f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in values)} WHERE id = ?", *values.values(), id)

    def end(self, id: str, state: State, message: str = "", **values: Any) -> None:
        """Record how a job ended."""
        self.note(id, state=state, message=message, ended=self._clock(), **values)

    def ask_to_cancel(self, id: str, owner: str) -> JobEntry | None:
        """Cancel a job that waits, and note of a running one that it shall end; None if `owner` has no such job."""
        with self._lock:
            entry = self.get(id, owner)
            if entry is not None and entry.state == "queued":
                self.end(id, "cancelled", is_cancelled=1)
            elif entry is not None and entry.state == "running":
                self.note(id, is_cancelled=1)
            return self.get(id, owner)

    def requeue_interrupted(self) -> list[JobEntry]:
        """Give jobs that a server left running their turn again; those that ended it too often count as failed.

        Returns the jobs that go on.
        """
        with self._lock:
            for entry in self._find("state = 'running'"):
                if entry.is_cancelled:
                    self.end(entry.id, "cancelled")
                elif entry.starts >= MOST_STARTS:
                    self.end(entry.id, "failed", f"the server ended {entry.starts} times while this job ran")
                else:
                    self.note(entry.id, state="queued")
            return self._find("state = 'queued' AND starts > 0 ORDER BY number")

    def over(self) -> list[JobEntry]:
        """Return the jobs that are over, the oldest first."""
        return self._find("state NOT IN ('queued', 'running') ORDER BY ended, number")

    def measured(self) -> list[JobEntry]:
        """Return the latest jobs whose speed was measured, the newest first."""
        return self._find("work_seconds IS NOT NULL ORDER BY number DESC LIMIT 100")

    def remove(self, id: str) -> None:
        self._run("DELETE FROM jobs WHERE id = ?", id)

    def _find(self, where: str, *values: Any) -> list[JobEntry]:
        with self._lock:
            rows = self._run(f"SELECT {', '.join(_COLUMNS)} FROM jobs WHERE {where}", *values).fetchall()
        return [JobEntry(*row) for row in rows]

    def _run(self, statement: str, *values: Any) -> sqlite3.Cursor:
        with self._lock:
            return self._database.execute(statement, values)
