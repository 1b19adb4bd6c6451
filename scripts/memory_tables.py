"""The tables of docs/results.md and README.md about memory, beside what upstream states."""

from collections.abc import Iterator

from benchmarks.bench_video2world import STRATEGIES, UPSTREAM_GB
from benchmarks.scaling.results import Line
from jax_interp.byte_sizes import format_bytes
from jax_interp.components import PLACEMENT_NAMES
from scripts.result_lines import Row, bits_of, by_card, gib_or_nothing, results, size_of, table
from scripts.step_tables import newest_step

OFFLOADED_LAST = {
    "resident": "guardrail_models",
    "+ text encoder offloaded": "text_encoder",
    "+ tokenizer offloaded": "tokenizer",
    "+ transformer offloaded": "diffusion_transformer",
}
"""The row of upstream's table that stands beside a strategy of the interpolator, by the last network offloaded in it.
Upstream has prompt upsampler and guardrails offloaded there; neither is in these runs."""
_WORLD_SIZES = "predicted_peak", "allocator_peak", "process_peak"


def world_parts() -> Iterator[str]:
    """Video2World's memory on the job of upstream's own table, all networks; a table for each kind of GPU."""
    for card, lines in by_card(_world_lines()).items():
        newest_of = {(line["config"]["model"], line["config"]["strategy"]): line for line in lines}
        yield _world_table(card, list(newest_of.values()))


def _world_lines() -> list[Line]:
    job = {"frames": 121, "height": 704, "width": 1280}
    same = [line for line in results("video2world") if job.items() <= line["config"].items()]
    return [line for line in same if set(line["networks"]) == set(PLACEMENT_NAMES)]


def _world_table(card: str, lines: list[Line]) -> str:
    models, strategies = list(UPSTREAM_GB), list(STRATEGIES)

    def place(line: Line) -> tuple[int, int]:
        model = line["config"]["model"]
        known = models.index(model) if model in models else len(models)
        return known, strategies.index(line["config"]["strategy"])

    rows = [
        (
            f"{size_of(line['config']['model'].removesuffix('-video2world'))}, {_strategy(line)}",
            *(format_bytes(line[f"{what}_bytes"], "GB") for what in _WORLD_SIZES),
            f"{line['step_ms']['median'] / 1e3:.1f} s" if line["step_ms"] else "",
            _stated_by_upstream(line),
        )
        for line in sorted(lines, key=place)
    ]
    heads = ("planned", "peak", "process", "a step, both branches", "upstream states")
    return table((f"Video2World, 121 frames, {card}", *heads), rows)


def _strategy(line: Line) -> str:
    """Return what a row calls a strategy: the network that is offloaded beside those of the rows above, or its name."""
    name = line["config"]["strategy"]
    return f"{name} offloaded" if name.startswith("+ ") else name


def _stated_by_upstream(line: Line) -> str:
    if line["upstream_gb"]:
        return f"{line['upstream_gb']} GB"
    return "more than 80 GB" if line["config"]["model"] in UPSTREAM_GB else ""


def memory_rows() -> Iterator[Row]:
    """Peaks and speed of every strategy."""
    lines = {
        (line["config"]["model"], line["config"]["strategy"], bits_of(line), line["compile_cache"]): line
        for line in memory()
    }
    for (model, strategy, bits, cache), line in sorted(lines.items(), key=_place_in_table):
        if cache == "cold" and (model, strategy, bits, "warm") in lines:
            continue
        size = size_of(model)
        stated = UPSTREAM_GB[f"{model}-video2world"].get(OFFLOADED_LAST.get(strategy, ""))
        yield (
            f"{size}, {strategy}{bits}{'' if 'text' in line['stages'] else ', no text stage'}"
            f"{', first start' if cache == 'cold' else ''}",
            gib_or_nothing(line["allocator_peak_bytes"]),
            gib_or_nothing(line["predicted_peak_bytes"]),
            gib_or_nothing(line["process_peak_bytes"]),
            f"{line['call_ms']['median'] / line['config']['pairs']:.0f} ms",
            gib_or_nothing(line["host_bytes"]),
            f"{stated} GB" if stated else "",
        )


def _place_in_table(entry: tuple[tuple[str, ...], Line]) -> tuple[int, int]:
    """Return a key that sorts 7B before 14B, and the largest memory of the process first."""
    (model, *_), line = entry
    return int(size_of(model)[:-1]), -line["predicted_peak_bytes"]


def memory() -> list[Line]:
    """Return every run of `bench_memory` on the card of most tables."""
    lines = [line for line in results("memory") if line["benchmark"] == "memory"]
    return by_card(lines)[newest_step()["device"]["kind"]]


def summary_memory() -> Iterator[Row]:
    """The smallest way to run the 7B networks: of Video2World on upstream's own job, and of the interpolator."""
    everything = {"model": "dit-7b-video2world", "strategy": "streamed"}
    for line in [line for line in _world_lines() if everything.items() <= line["config"].items()][-1:]:
        peak, process = (format_bytes(line[f"{what}_bytes"], "GB") for what in _WORLD_SIZES[1:])
        what = f"peak of GPU memory, Video2World, 121 frames, all networks streamed ({line['device']['kind']})"
        yield what, f"{peak}, process {process}", f"upstream states {line['upstream_gb']} GB, all offloaded"
    lines = [line for line in memory() if not bits_of(line)]
    for line in [m for m in lines if (m["config"]["model"], m["config"]["strategy"]) == ("dit-7b", "streamed")][-1:]:
        took = line["call_ms"]["median"] / line["config"]["pairs"]
        peak, process = (gib_or_nothing(line[name]) for name in ("allocator_peak_bytes", "process_peak_bytes"))
        what = "peak of GPU memory without guardrails, all streamed"
        yield what, f"{peak}, process {process}, {took:.0f} ms an evaluation", ""
