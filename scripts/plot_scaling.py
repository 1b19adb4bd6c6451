"""Draw docs/scaling.png from benchmarks/results/scaling.jsonl: speed-up over GPUs of one host, beside the ideal.

```
python -m scripts.plot_scaling [--results FILE] [--output FILE]
```
"""

import argparse
import sys
from pathlib import Path

from benchmarks.scaling.results import RESULTS, Scaling, read

PICTURE = Path(__file__).parents[1] / "docs/scaling.png"


def speedups(scaling: Scaling) -> dict[str, dict[int, float]]:
    """Return the speedup over one GPU, by what is run and by number of GPUs; only what was measured on several."""
    names = {
        "evaluation": "an evaluation of one pair",
        "pair": "one whole pair",
        "pairs": "many pairs",
    }
    found = {name: dict(sorted(scaling.speedups.get(what, {}).items())) for what, name in names.items()}
    return {name: line for name, line in found.items() if len(line) > 1}


def draw(scaling: Scaling, path: Path) -> None:
    """Write the plot of `scaling` to `path`.

    Raises:
        ValueError: nothing was measured on one GPU and on several.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = speedups(scaling)
    if not lines:
        raise ValueError("no case was measured on one GPU and on several")
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    counts = sorted({gpus for line in lines.values() for gpus in line})
    axes.plot(counts, counts, color="0.6", linestyle="--", label="ideal")
    for (name, line), marker in zip(lines.items(), "os^", strict=False):
        axes.plot(list(line), list(line.values()), marker=marker, label=f"{name} ({list(line.values())[-1]:.2f}×)")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:.0f}")
    axes.set_xticks(counts)
    axes.set_yticks(counts)
    axes.set_xlabel("GPUs of one host")
    axes.set_ylabel("times faster than one GPU")
    axes.set_title(f"{scaling.device}, 7B, 704×1280, bfloat16", fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend()
    temporary = path.with_name(f".{path.name}.partial")
    FigureCanvasAgg(figure).print_png(str(temporary))
    temporary.replace(path)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--results", type=Path, default=RESULTS)
    arguments.add_argument("--output", type=Path, default=PICTURE)
    options = arguments.parse_args()
    scaling = read(options.results)
    if scaling is None:
        sys.exit(f"{options.results}: no results of the 7B network; run benchmarks.bench_scaling on several GPUs first")
    try:
        draw(scaling, options.output)
    except ValueError as error:
        sys.exit(f"{options.results}: {error}; nothing drawn")


if __name__ == "__main__":
    main()
