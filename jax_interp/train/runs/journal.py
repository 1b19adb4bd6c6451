"""The journal of a training run, step by step: JSON lines, and events for TensorBoard."""

import json
import logging
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jax_interp.errors import JaxInterpError
from jax_interp.files.atomic import write_atomically
from jax_interp.files.disk import why_not_written

logger = logging.getLogger("jax_interp")

_FLUSH_SECONDS = 30.0
"""The longest time for which events of TensorBoard stay in a buffer while others come."""


class Journal:
    """The journal of a run: `metrics.jsonl` and, if tensorboardX is installed, `tensorboard/` in its folder."""

    def __init__(self, folder: Path, first_step: int):
        """Continue at `first_step`; lines of an interrupted run about later steps are dropped, as these run again."""
        self.path = folder / "metrics.jsonl"
        kept = [line for line in self._lines() if json.loads(line)["step"] <= first_step]
        write_atomically(self.path, "".join(f"{line}\n" for line in kept).encode())
        self._events = _open_events(folder / "tensorboard", first_step)

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line for `step`, counted from 1.

        Raises:
            JaxInterpError: the disk is full or cannot be written to.
        """
        entry: dict[str, Any] = {"step": step, **values}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise JaxInterpError(
                f"{self.path}: {why_not_written(self.path, error)}; then go on with --resume"
            ) from error
        if self._events is not None:
            self._events.note(step, values)

    def close(self) -> None:
        """Write what is buffered, and close the files."""
        if self._events is not None:
            self._events.close()

    def _lines(self) -> list[str]:
        """Return the complete lines; the last line of the file may have been cut."""
        if not self.path.exists():
            return []
        return [line for line in self.path.read_text("utf-8").splitlines() if _is_entry(line)]


def _is_entry(line: str) -> bool:
    try:
        return isinstance(json.loads(line)["step"], int)
    except (ValueError, KeyError, TypeError):
        return False


def _open_events(folder: Path, first_step: int) -> "_Events | None":
    if find_spec("tensorboardX") is None:
        logger.info('no events for TensorBoard: pip install -e ".[train]" in the clone')
        return None
    return _Events(folder, first_step)


class _Events:
    """A file of events for TensorBoard; when the disk is full, a warning says so, and no more are written.

    tensorboardX's `SummaryWriter` writes in a thread of its own and, once a full disk has ended that, waits for it
    forever. Here the records are written as they come, at the latest after `_FLUSH_SECONDS`.
    """

    def __init__(self, folder: Path, first_step: int):
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]
        from tensorboardX.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
        self._records: Any = RecordWriter(str(self._path))
        self._flushed = time.monotonic()
        # TensorBoard drops what an interrupted run wrote of the steps that come again.
        self._write(
            Event(wall_time=time.time(), file_version="brain.Event:2"),
            Event(wall_time=time.time(), step=first_step + 1, session_log=SessionLog(status=SessionLog.START)),
        )

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """Add the scalars of `step`."""
        from tensorboardX.proto.event_pb2 import Event  # type: ignore[attr-defined]
        from tensorboardX.summary import scalar

        moment = time.time()
        self._write(
            *(Event(wall_time=moment, step=step, summary=scalar(name, value)) for name, value in values.items())
        )

    def close(self) -> None:
        """Write what is buffered, and close the file."""
        if self._records is not None:
            with self._given_up_if_full():
                self._records.close()

    def _write(self, *events: Any) -> None:
        if self._records is None:
            return
        with self._given_up_if_full():
            for event in events:
                self._records.write(event.SerializeToString())
            if time.monotonic() - self._flushed > _FLUSH_SECONDS:
                self._records.flush()
                self._flushed = time.monotonic()

    @contextmanager
    def _given_up_if_full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            logger.warning("%s: %s; this run writes no more events", self._path, why_not_written(self._path, error))
            with suppress(OSError):
                self._records.close()
            self._records = None
