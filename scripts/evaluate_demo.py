"""How good the demo's networks are on shots and scenes that they never saw, beside blending and the nearest end.

```
python -m scripts.evaluate_demo film.mp4 --converted demo/converted --output benchmarks/results/demo.jsonl
```

Prints a table by how much moves, and adds a JSON line to `--output`. Of windows of ten frames both ends are given and
the eight between are compared. "tokenizer" is the true frames encoded and decoded, which bounds what can be generated.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from benchmarks.environment import environment
from jax_interp import Interpolator
from scripts.demo_training import film, scenes

CLASSES = ((0.0, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 255.0))
MOVING = 8.0
"""A place counts as moving if both ends differ there by more than this (of 255)."""
SCENE_SEED = 99


def windows(path: Path, count: int) -> Iterator[tuple[str, np.ndarray]]:
    """(class, frames [10, Y, X, 3]): of every motion class `count` windows of held-out shots, then rendered scenes."""
    frames = film.read_film(path)
    parts = film.split(frames)
    motion = parts.motion[parts.held_out]
    for least, most in CLASSES:
        there = parts.held_out[(motion >= least) & (motion < most)]
        for start in there[np.linspace(0, len(there) - 1, count).astype(int)]:
            yield f"film, motion {least:g} to {most:g}", frames[start : start + film.WINDOW]
    for scene in np.asarray(scenes.render(jax.random.key(SCENE_SEED), count, *frames.shape[1:3])):
        yield "rendered scenes", scene


def scores(interpolator: Interpolator, truth: np.ndarray, num_steps: int) -> dict[str, tuple[float, float]]:
    """PSNR in dB of the eight frames between, whole and where something moves, for each way to make them."""
    _, height, width, _ = truth.shape
    share = (np.arange(1, 9) / 9)[:, None, None, None]
    ends = truth[[0, 9]]
    made = {
        "ours": interpolator.interpolate(ends, height=height, width=width, num_steps=num_steps).frames[1:9],
        "blend": ends[0] * (1 - share) + ends[1] * share,
        "nearest": np.where(share < 0.5, ends[0], ends[1]),
        "tokenizer": through_tokenizer(interpolator, truth)[1:9],
    }
    moving = np.abs(ends[0].astype(float) - ends[1]).mean(-1) > MOVING
    return {name: (_psnr(found, truth[1:9]), _psnr(found, truth[1:9], moving)) for name, found in made.items()}


def through_tokenizer(interpolator: Interpolator, truth: np.ndarray) -> np.ndarray:
    """The first nine frames encoded and decoded."""
    codec = interpolator.codec
    pixels = truth[None, :9].astype(np.float32) / 128 - 1

    def there_and_back(params, x):
        tokenizer = codec.network.bind(params)
        return tokenizer.decode(tokenizer.encode(x))

    out = np.asarray(codec.jit(there_and_back)(codec.params, pixels))[0]
    return (np.clip(1 + out, 0, 2) / 2 * 255).astype(np.uint8)


def _psnr(made: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None) -> float:
    error = (made.astype(np.float64) - truth) ** 2
    error = error if where is None else error[:, where]
    return float(10 * np.log10(255**2 / error.mean())) if error.size else float("nan")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("film", type=Path)
    arguments.add_argument("--converted", type=Path, default=Path("demo/converted"))
    arguments.add_argument("--count", type=int, default=20)
    arguments.add_argument("--num-steps", type=int, default=12)
    arguments.add_argument("--output", type=Path)
    options = arguments.parse_args()
    interpolator = Interpolator.from_pretrained(options.converted, dtype="float32")
    found: dict[str, list[dict[str, tuple[float, float]]]] = {}
    for name, truth in windows(options.film, options.count):
        found.setdefault(name, []).append(scores(interpolator, truth, options.num_steps))
    table = {
        name: {way: np.nanmean([row[way] for row in rows], axis=0).round(2).tolist() for way in rows[0]}
        for name, rows in found.items()
    }
    for name, ways in table.items():
        print(f"{name}: " + ", ".join(f"{way} {whole:.2f} ({moving:.2f})" for way, (whole, moving) in ways.items()))
    if options.output:
        line = {"benchmark": "demo", "windows_a_class": options.count, "num_steps": options.num_steps, "psnr": table}
        with options.output.open("a") as file:
            file.write(json.dumps(environment() | line) + "\n")


if __name__ == "__main__":
    main()
