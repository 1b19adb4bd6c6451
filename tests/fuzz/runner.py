"""Runs cases in processes of their own, and counts how they end."""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.readers import READERS

FAULTS = ("executed", "crash", "hang", "memory", "wrong value")
CLASSES = ("read", "refused", *FAULTS)

ROOT = Path(__file__).parents[2]
PATIENCE = 120
"""Seconds without a word after which a process is ended; the first word comes when everything is imported."""


@dataclass(frozen=True)
class Result:
    """How one case ended."""

    reader: str
    number: int
    outcome: str
    """One of `CLASSES`."""
    change: str
    detail: str


def run(
    name: str, cases: int, seed: int, module: str = "tests.fuzz.readers", patience: float = PATIENCE
) -> Iterator[Result]:
    """The cases 0 to `cases` - 1 of a reader in `READERS` of `module`. A process that dies is followed by another."""
    with tempfile.TemporaryDirectory() as folder:
        valid, work = Path(folder, "valid"), Path(folder, "work")
        valid.mkdir()
        work.mkdir()
        _make(module, name, valid)
        first = 0
        while first < cases:
            last = first
            for result in _run_child(module, name, valid, work, seed, first, cases, patience):
                yield result
                last = result.number + 1
            if last == first:
                raise RuntimeError(f"{name}: the process ended before its first case\n{_errors(work)}")
            first = last


def _make(module: str, name: str, valid: Path) -> None:
    program = (
        "import importlib, sys; from pathlib import Path;"
        " importlib.import_module(sys.argv[1]).READERS[sys.argv[2]].make(Path(sys.argv[3]))"
    )
    subprocess.run([sys.executable, "-c", program, module, name, valid], cwd=ROOT, env=_environment(), check=True)


def _run_child(
    module: str, name: str, valid: Path, work: Path, seed: int, first: int, last: int, patience: float
) -> Iterator[Result]:
    command = [sys.executable, "-m", "tests.fuzz.child", f"{module}:{name}", valid, *map(str, (seed, first, last))]
    subprocess.run(["rm", "-rf", str(work / "case")], check=True)
    with (work.parent / "errors").open("w") as errors:
        child = subprocess.Popen(command, cwd=work, env=_environment(), stdout=subprocess.PIPE, stderr=errors)
        started: dict = {}
        try:
            for line in _lines(child, patience):
                said = json.loads(line)
                if "starts" in said:
                    started = said
                else:
                    yield Result(name, said["ends"], said["outcome"], started["change"], said["detail"])
                    started = {}
            code = child.wait(10)
            if started:
                detail = f"died, {code}: {_errors(work)[-300:]}"
                yield Result(name, started["starts"], "crash", started["change"], detail)
        except TimeoutError:
            if started:
                yield Result(name, started["starts"], "hang", started["change"], f"no word for {patience} s")
        finally:
            child.kill()
            child.communicate()


def _errors(work: Path) -> str:
    """What the last process has printed on standard error."""
    return (work.parent / "errors").read_text(errors="replace")


def _lines(child: subprocess.Popen, patience: float) -> Iterator[bytes]:
    assert child.stdout is not None
    buffer = b""
    while True:
        ready, _, _ = select.select([child.stdout], [], [], patience)
        if not ready:
            raise TimeoutError
        if not (more := os.read(child.stdout.fileno(), 1 << 16)):
            return
        *lines, buffer = (buffer + more).split(b"\n")
        yield from lines


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "JAX_PLATFORMS": "cpu"}


def table(results: list[Result]) -> str:
    """The counts by reader and class."""
    counts = Counter((result.reader, result.outcome) for result in results)
    names = [name for name in READERS if any(reader == name for reader, _ in counts)]
    lines = ["".join([f"{'':24}", *(f"{outcome:>13}" for outcome in CLASSES)])]
    lines += ["".join([f"{name:24}", *(f"{counts[name, outcome]:13}" for outcome in CLASSES)]) for name in names]
    return "\n".join(lines)
