"""Interpolate a clip with no more memory than a budget, and say where every network was placed.

```
make demo
.venv/bin/python examples/memory_budget.py jax_interp/demo/clip.mp4 --gib 2
```

`jax-interp generate --memory-budget 2GiB` does the same; this shows the calls behind it.
"""

import argparse
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from jax_interp import InterpolationSettings, Interpolator


def interpolate_within(
    converted: Path, frames: np.ndarray, budget: int, settings: InterpolationSettings
) -> tuple[np.ndarray, dict[str, str]]:
    """Return the frames of all pairs of `frames`, and each network's placement within `budget` bytes.

    Raises:
        jax_interp.JaxInterpError: no placement fits into the budget; the message says what would.
    """
    interpolator = Interpolator.from_pretrained(converted)
    plan = interpolator.planner(settings).within(budget)
    interpolator.place(plan.placements)
    result = interpolator.interpolate(frames, height=settings.height, width=settings.width)
    return result.frames, {name: placement.kind for name, placement in interpolator.placements.items()}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("clip", type=Path)
    arguments.add_argument("--converted", type=Path, default=Path("demo/converted"))
    arguments.add_argument("--gib", type=float, default=2)
    arguments.add_argument("--pairs", type=int, default=1)
    options = arguments.parse_args()
    frames = iio.imread(options.clip)[: options.pairs + 1]
    settings = InterpolationSettings(height=128, width=192)
    shown, placements = interpolate_within(options.converted, frames, int(options.gib * 2**30), settings)
    for name, kind in placements.items():
        print(f"{name}: {kind}")
    print(f"{len(shown)} frames")


if __name__ == "__main__":
    main()
