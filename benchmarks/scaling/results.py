"""What `bench_scaling` has measured, read from its result file: the newest line of every case counts."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import HEIGHT, WIDTH
from jax_interp.config import Quantization

RESULTS = Path(__file__).parents[1] / "results/scaling.jsonl"
Line = dict[str, Any]


@dataclass(frozen=True)
class Scaling:
    """Milliseconds and link speeds of one network on one kind of GPU, by number of GPUs."""

    device: str
    evaluation: dict[int, float] = field(default_factory=dict)
    """One evaluation of one pair, tokens over the GPUs."""
    pair: dict[int, float] = field(default_factory=dict)
    """A whole pair, tokens over the GPUs."""
    pairs: dict[int, float] = field(default_factory=dict)
    """One of many pairs, which are spread over the GPUs: the time of all over their number."""
    speedups: dict[str, dict[int, float]] = field(default_factory=dict)
    """Times faster than one GPU of the same host, of `evaluation`, `pair`, `pairs` and `world`."""
    undivided: float | None = None
    """Of a whole pair on one GPU, what is not the denoiser's."""
    links: dict[int, Line] = field(default_factory=dict)
    """Lines of `links`, by number of GPUs."""
    world: dict[int, float] = field(default_factory=dict)
    """A step of a clip by Video2World, both branches, tokens over the GPUs."""
    policies: list[Line] = field(default_factory=list)
    """Lines of warm evaluations, every mesh and placement."""
    agreement: Line | None = None

    @property
    def most(self) -> int:
        """The largest number of GPUs on which one pair was measured."""
        return max(self.evaluation, default=1)


def read(
    path: Path = RESULTS,
    model: str = "dit-7b",
    height: int = HEIGHT,
    width: int = WIDTH,
    quantization: Quantization = "none",
) -> Scaling | None:
    """Return the results for `model` at that size; None if there are none."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    wanted = {"model": model, "height": height, "width": width, "quantization": quantization}
    lines = [line for line in lines if wanted.items() <= {"quantization": "none", **line["config"]}.items()]
    if not lines:
        return None
    # One machine: a number of another kind of GPU would say nothing beside these.
    device = lines[-1]["device"]["kind"]
    lines = [line for line in lines if line["device"]["kind"] == device]
    names = ("scaling_step", "scaling_pair", "scaling_pairs", "scaling_video2world")
    steps, pair, pairs, world = (_of(lines, name) for name in names)
    agreement = _of(lines, "scaling_agreement")
    layouts = {(_layout(line), line["compile_cache"]): line for line in steps}
    policies = {layout: line for (layout, _), line in sorted(layouts.items(), key=lambda entry: entry[0][1])}
    measured = {
        "evaluation": [(line, line["call_ms"]["median"]) for line in steps if _only(line, "sequence")],
        "pair": [(line, line["pair_ms"]["median"]) for line in pair if _only(line, "sequence")],
        "pairs": [(line, 1e3 * line["seconds"] / line["config"]["pairs"]) for line in pairs if _only(line, "data")],
        "world": [(line, line["step_ms"]["median"]) for line in world if _only(line, "sequence")],
    }
    return Scaling(
        device=device,
        **{name: {_gpus(line): took for line, took in times} for name, times in measured.items()},
        speedups={name: _speedups(times) for name, times in measured.items()},
        undivided=next((_undivided(line) for line in reversed(pair) if _gpus(line) == 1), None),
        links={_gpus(line): line for line in _of(lines, "scaling_links")},
        policies=sorted(policies.values(), key=_gpus),
        agreement=agreement[-1] if agreement else None,
    )


def _of(lines: list[Line], benchmark: str) -> list[Line]:
    return [line for line in lines if line["benchmark"] == benchmark]


def _layout(line: Line) -> tuple[str, str]:
    return line["config"]["mesh"], line["config"]["placement"]


def _gpus(line: Line) -> int:
    return line["config"]["gpus"]


def _speedups(times: list[tuple[Line, float]]) -> dict[int, float]:
    """Return speedups by number of GPUs over one GPU of the same host, because hosts differ by some per cent."""
    alone = {line["commit"]: took for line, took in times if _gpus(line) == 1}
    return {_gpus(line): alone[line["commit"]] / took for line, took in times if line["commit"] in alone}


def _undivided(line: Line) -> float:
    return line["pair_ms"]["min"] - 1e3 * line["stage_seconds"]["denoise"]


def _only(line: Line, axis: str) -> bool:
    """Tell whether weights are replicated and only `axis` has more than one device."""
    mesh, placement = _layout(line)
    return placement == "resident" and mesh in ("one GPU", f"{axis}={_gpus(line)}")
