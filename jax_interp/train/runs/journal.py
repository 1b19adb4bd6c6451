"""The journal of a training run, step by step: JSON lines, and events for TensorBoard."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jax_interp.files.atomic import write_atomically

logger = logging.getLogger("jax_interp")


class Journal:
    """The journal of a run: `metrics.jsonl` and, if tensorboardX is installed, `tensorboard/` in its folder."""

    def __init__(self, folder: Path, first_step: int):
        """Continue at `first_step`; lines of an interrupted run about later steps are dropped, as these run again."""
        self.path = folder / "metrics.jsonl"
        kept = [line for line in self._lines() if json.loads(line)["step"] <= first_step]
        write_atomically(self.path, "".join(f"{line}\n" for line in kept).encode())
        self._events = _open_events(folder / "tensorboard", first_step)

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line for `step`, counted from 1."""
        entry: dict[str, Any] = {"step": step, **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
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


def _open_events(folder: Path, first_step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        logger.info('no events for TensorBoard: pip install -e ".[train]" in the clone')
        return None
    return SummaryWriter(str(folder), purge_step=first_step + 1)
