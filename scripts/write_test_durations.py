"""Write the table of docs/contributing.md that says which tests take how long, from what pytest printed.

```
make test PYTEST_ARGS=--durations=0 | tee quick.log
make test-all PYTEST_ARGS="-m slow --durations=0" | tee slow.log
python -m scripts.write_test_durations quick.log slow.log
```
"""

import argparse
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs/contributing.md"
BEGIN, END = "<!-- durations:begin -->\n", "<!-- durations:end -->\n"
SHOWN = 20
"""The number of files in the table; the others share one line."""
LINE = re.compile(r"^ *(\d+\.\d+)s (?:setup|call|teardown) +(\S+?\.py)::", re.MULTILINE)


def seconds_of_files(printed: str) -> dict[str, float]:
    """Return the seconds of every test file in pytest's output, with fixtures; it omits what takes under 5 ms."""
    seconds: dict[str, float] = defaultdict(float)
    for took, file in LINE.findall(printed):
        seconds[file] += float(took)
    return dict(seconds)


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
    """Return `document` with `written` between the marks."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + written + END + after


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("quick", type=Path)
    arguments.add_argument("slow", type=Path)
    options = arguments.parse_args()
    quick, slow = (seconds_of_files(path.read_text()) for path in (options.quick, options.slow))
    DOCUMENT.write_text(replaced(DOCUMENT.read_text(), table(quick, slow)))


if __name__ == "__main__":
    main()
