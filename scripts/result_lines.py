"""The lines of benchmarks/results/, and how tables write what is in them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.scaling.results import Line
from jax_interp.byte_sizes import gib

RESULTS = Path(__file__).parents[1] / "benchmarks/results"
Row = tuple[str, ...]


def results(name: str) -> list[Line]:
    """Return the lines of one result file, oldest first; none if it does not exist."""
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def newest(name: str, benchmark: str, card: str, **config: Any) -> Line | None:
    """Return the newest line of `benchmark` on `card` in file `name` whose configuration has these values."""
    found = [
        line
        for line in by_card(results(name)).get(card, [])
        if line["benchmark"] == benchmark and all(line["config"].get(key) == value for key, value in config.items())
    ]
    return found[-1] if found else None


def by_card(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """Return the lines by the name of the GPU that they were measured on, because numbers of two do not compare."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line["device"]["kind"], []).append(line)
    return found


def bits_of(line: Line) -> str:
    """Return what a row says of a line that was measured in 8 bits."""
    quantization = line["config"].get("quantization") or "none"
    return {"none": "", "int8": ", in 8 bits"}.get(quantization, f", {quantization}")


def whole_pairs(card: str, *, quantized: bool) -> list[Line]:
    """Return the runs of a whole pair with 7B on `card`, in 8 bits or not."""
    found = by_card(results("pair")).get(card, [])
    lines = [line for line in found if line["benchmark"] == "pair" and line["config"]["model"] == "dit-7b"]
    return [line for line in lines if bool(bits_of(line)) is quantized]


def size_of(model: str) -> str:
    """Return the size of a network, as 7B, from the name of its folder."""
    return model.removeprefix("dit-").upper()


def gib_or_nothing(size: int | None) -> str:
    """Return a number of bytes in GiB; nothing for one that was not measured."""
    return gib(size) if size else ""


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    heads = tuple(heads)
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
