"""The process that reads the cases: one line of JSON for each that is done, so that what kills it is known.

`python -m tests.fuzz.child READER FOLDER SEED FIRST LAST`, in a folder of its own.
"""

import importlib
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

from jax_interp.errors import JaxInterpError
from tests.fuzz.mutations import CANARY
from tests.fuzz.readers import Reader

SECONDS = 5.0
"""Of processor time for one case."""
MEMORY = 256 << 20
"""Bytes on top of what the process had before the case."""

_RUNS = (
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn"),
    *("socket.connect", "socket.bind", "ctypes.dlopen", "pickle.find_class", "marshal.loads", "import", "exec"),
    *("os.remove", "os.rename", "os.rmdir", "shutil.rmtree", "os.chmod", "os.link", "os.symlink"),
)
_REMOVALS = ("os.remove", "os.rmdir", "shutil.rmtree")
"""Audit events that no reader causes."""


class Watch:
    """Notes what Python reports of itself while a case is read."""

    def __init__(self, removable: Path | None = None) -> None:
        """`removable` is a folder that may be removed."""
        self.is_on = False
        self._removable = removable
        self.events: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or (event in _RUNS and not (event in _REMOVALS and self._may_remove(*arguments))):
            self.events.append(f"{event} {arguments!r}"[:200])

    def _may_remove(self, path: Any, folder: int | None) -> bool:
        """`folder` is the descriptor of the one in which a relative path begins, None or -1 for the current one."""
        if self._removable is None:
            return False
        start = Path("/proc/self/cwd" if folder in (None, -1) else f"/proc/self/fd/{folder}").readlink()
        return Path(os.path.normpath(Path(start, os.fsdecode(path)))).is_relative_to(self._removable.absolute())


def mutate(reader: Reader, folder: Path, seed: int, number: int) -> tuple[str, bool]:
    """Change one file in `folder`; returns how, and whether the format can tell."""
    rng = Random(f"{reader.name} {seed} {number}")
    path = folder / rng.choice(reader.targets)
    is_seen = bool(reader.seen) and (not reader.unseen or rng.random() < 0.5)
    names, data = [], path.read_bytes()
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        change = rng.choice(reader.seen if is_seen else reader.unseen)
        data = change(rng, data or b"\0")
        names.append(change.__name__)
    path.write_bytes(data)
    return f"{path.name}: {', '.join(names)}", is_seen


def run_case(reader: Reader, folder: Path, expected: Any, is_seen: bool, watch: Watch) -> tuple[str, str]:
    """How reading `folder` ends, as a class of `tests.fuzz`, and more about it."""
    before, start = _reset_peak(), time.process_time()
    watch.events, watch.is_on = [], True
    try:
        found = reader.read(folder)
        outcome = ("wrong value", "") if is_seen and found != expected else ("read", "")
    except JaxInterpError as error:
        outcome = ("refused", str(error)[:200])
        if any(not letter.isprintable() and letter != "\n" for letter in str(error)):
            outcome = ("crash", f"a message with control characters: {str(error)[:200]!r}")
    except MemoryError as error:
        outcome = ("memory", repr(error))
    except BaseException as error:
        outcome = ("crash", f"{type(error).__name__}: {str(error)[:200]}")
    finally:
        watch.is_on = False
    if watch.events or Path(CANARY).exists():
        Path(CANARY).unlink(missing_ok=True)
        return "executed", "; ".join(watch.events) or CANARY
    seconds, grown = time.process_time() - start, _peak() - before
    if seconds > SECONDS:
        return "hang", f"{seconds:.1f} s"
    return ("memory", f"{grown >> 20} MiB") if grown > MEMORY else outcome


def _reset_peak() -> int:
    """Forget the largest memory that the process had; returns what it has now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) << 10


def main(reader: Reader, valid: Path, seed: int, first: int, last: int) -> None:
    """Read the cases `first` to `last` - 1 of `seed`; `valid` is a folder of valid files."""
    work = Path("case")
    watch = Watch(work / reader.removable if reader.removable else None)
    shutil.copytree(valid, work, symlinks=True)
    expected = reader.read(work)  # imports everything that reading needs,
    for module in ("encodings.unicode_escape", "unicodedata"):  # and the standard library to say what is wrong
        importlib.import_module(module)
    shutil.rmtree(work)
    size = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (size + 4 * MEMORY, size + 4 * MEMORY))
    for number in range(first, last):
        shutil.copytree(valid, work, symlinks=True)
        change, is_seen = mutate(reader, work, seed, number)
        print(json.dumps({"starts": number, "change": change}), flush=True)
        outcome, detail = run_case(reader, work, expected, is_seen, watch)
        print(json.dumps({"ends": number, "outcome": outcome, "detail": detail}), flush=True)
        shutil.rmtree(work)


if __name__ == "__main__":
    module, name = sys.argv[1].split(":")
    main(importlib.import_module(module).READERS[name], Path(sys.argv[2]), *map(int, sys.argv[3:6]))
