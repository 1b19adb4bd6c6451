"""Write the table of docs/contributing.md that says which tests take how long, from what pytest printed.

```
make test PYTEST_ARGS=--durations=0 | tee quick.log
make test-all PYTEST_ARGS="-m slow --durations=0" | tee slow.log
python -m scripts.write_test_durations quick.log slow.log
```

Nothing is written unless both runs came to their end without a failure.
"""

import argparse
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jax_interp.files.atomic import write_atomically

DOCUMENT = Path(__file__).parents[1] / "docs/contributing.md"
BEGIN, END = "<!-- durations:begin -->\n", "<!-- durations:end -->\n"
SHOWN = 20
"""The number of files in the table; the others share one line."""
LINE = re.compile(r"^ *(\d+\.\d+)s (?:setup|call|teardown) +(\S+?\.py)::", re.MULTILINE)


CLOSING = re.compile(r"^=* ?((?:\d+ [a-z]+, )*\d+ [a-z]+) in (\d+\.\d+)s", re.MULTILINE)
"""Pytest's closing line, as "= 812 passed, 3 skipped in 270.31s (0:04:30) ="."""


@dataclass(frozen=True)
class TierRun:
    """One tier of tests, as a finished run of pytest printed it."""

    seconds: dict[str, float]
    """The seconds of every test file, with fixtures; what takes under 5 ms is left out."""
    passed: int
    wall: float
    """The seconds from the start of the run to its end."""


def read_run(printed: str) -> TierRun:
    """Return what pytest printed of one tier, with `--durations=0`.

    Raises:
        ValueError: the output does not end, has no durations, or has tests that failed.
    """
    closing = CLOSING.findall(printed)
    if len(closing) != 1:
        raise ValueError(f"has {len(closing)} closing lines of pytest; expected the output of one run, up to its end")
    outcomes = {name: int(count) for count, name in (each.split() for each in closing[0][0].split(", "))}
    if bad := [f"{outcomes[name]} {name}" for name in ("failed", "error", "errors") if name in outcomes]:
        raise ValueError(f"has {', '.join(bad)}; what a failed test takes is not what it takes when it passes")
    seconds: dict[str, float] = defaultdict(float)
    for took, file in LINE.findall(printed):
        seconds[file] += float(took)
    if not seconds:
        raise ValueError("has no durations; run pytest with --durations=0")
    return TierRun(dict(seconds), outcomes.get("passed", 0), float(closing[0][1]))


def section(quick: TierRun, slow: TierRun) -> str:
    """Return a sentence on how much was run and how long that took, and the table."""
    return (
        f"{quick.passed} quick tests took {quick.wall / 60:.1f} minutes together, {slow.passed} slow ones"
        f" {slow.wall / 60:.1f} minutes.\n\n{table(quick.seconds, slow.seconds)}"
    )


def table(quick: dict[str, float], slow: dict[str, float]) -> str:
    """Return the files that take longest in both tiers together."""
    both = {file: (quick.get(file, 0.0), slow.get(file, 0.0)) for file in {**quick, **slow}}
    order = sorted(both, key=lambda file: -sum(both[file]))
    rows = [(f"`{file}`", *both[file]) for file in order[:SHOWN]]
    rest = [both[file] for file in order[SHOWN:]]
    rows += [(f"{len(rest)} others", *_sum(rest)), ("all", *_sum(both.values()))]
    lines = [f"| {name} | {first:.0f} | {second:.0f} |\n" for name, first, second in rows]
    return "".join(["| tests | quick, s | slow, s |\n", "| --- | --- | --- |\n", *lines])


def _sum(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    pairs = list(pairs)
    return sum(first for first, _ in pairs), sum(second for _, second in pairs)


def replaced(document: str, written: str) -> str:
    """Return `document` with `written` between the marks.

    Raises:
        ValueError: the marks are not there, each once.
    """
    if (document.count(BEGIN), document.count(END)) != (1, 1):
        raise ValueError(f"needs the lines {BEGIN.strip()} and {END.strip()}, each once")
    before, rest = document.split(BEGIN)
    return before + BEGIN + written + END + rest.split(END)[1]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("quick", type=Path)
    arguments.add_argument("slow", type=Path)
    options = arguments.parse_args()
    try:
        written = section(_read(options.quick), _read(options.slow))
        document = replaced(DOCUMENT.read_text("utf-8"), written)
    except OSError as error:
        raise SystemExit(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise SystemExit(str(error)) from None
    write_atomically(DOCUMENT, document.encode())


def _read(path: Path) -> TierRun:
    try:
        return read_run(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


if __name__ == "__main__":
    main()
