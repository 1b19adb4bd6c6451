"""How good the demo's networks are on shots and scenes that they never saw, beside blending and the nearest end.

```
python -m scripts.evaluate_demo film.mp4 --converted demo/converted --lines demo/evaluation.jsonl \
    --output benchmarks/results/demo.jsonl --seconds 540      # again and again until it says that it is done
```

Of windows of ten frames both ends are given and the eight between are compared: PSNR, and SSIM as `dm-pix` has it
(Gaussian windows of 11 pixels), over whole frames and where something moves, and two measures of edges. "sharpness" is
the mean gradient over that of the truth, wherever its edges are. "edges_in_place" is how much of the true gradients is
there where they belong: 1 for the truth, 0.5 for edges at half their contrast, 0 for edges elsewhere. "tokenizer" is
the true frames encoded and decoded, which bounds what can be generated. Windows are spread over the held-out shots,
`--count` of every class by how much moves, and as many rendered scenes.

With `--quantization int8` the same networks without it make every window too, from the same noise: "unquantized". Both
are compared with the truth, and the PSNR between them is measured.

`--lines` gets a line a window as soon as it is measured; windows that are there, from the same weights with as many
steps, are not measured again. Once there are all, a table is printed and a line with it added to `--output`.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import numpy as np

from benchmarks.environment import environment
from jax_interp import Interpolator
from jax_interp.config import Precision, Quantization
from jax_interp.evaluation.baselines import blend, nearest
from jax_interp.evaluation.metrics import moving_mask, psnr, ssim
from jax_interp.runtime.checkpoint.description import MANIFEST_FILE
from jax_interp.runtime.checkpoint.finding import find_component
from scripts.demo_training import film, scenes

CLASSES = ((0.0, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 255.0))
RENDERED = "rendered scenes"
OURS, UNQUANTIZED = "ours", "unquantized"
TO_UNQUANTIZED = "psnr_to_unquantized"
SCENE_SEED = 99
MEASURES = (("psnr", 2), ("ssim", 4), ("sharpness", 3), ("edges_in_place", 3), (TO_UNQUANTIZED, 2))
"""What is measured, with the digits that are kept."""

Score = tuple[float | None, float | None]
"""(score over whole frames, score where something moves); None if nothing moves, or if there is no error at all."""
RoundTrip = Callable[[np.ndarray], np.ndarray]
"""Encodes and decodes the first nine of ten frames."""


class Window(NamedTuple):
    """Ten frames that are compared."""

    name: str
    group: str
    """The class of motion, or `RENDERED`."""
    shot: int | None
    """The index of the shot's first frame."""
    start: int
    """The index of the first frame, or the number of the scene."""


def choose_windows(parts: film.Split, count: int) -> list[Window]:
    """Choose `count` windows of every motion class, from as many held-out shots as there are, then as many scenes."""
    first = np.array([shot[0] for shot in parts.held_out_shots])
    shots = first[np.searchsorted(first, parts.held_out, side="right") - 1]
    motion, chosen = parts.motion[parts.held_out], []
    for least, most in CLASSES:
        there = (motion >= least) & (motion < most)
        group = f"film, motion {least:g} to {most:g}"
        for start, shot in spread(parts.held_out[there], shots[there], count):
            chosen.append(Window(f"film {start}", group, shot, start))
    return chosen + [Window(f"scene {number}", RENDERED, None, number) for number in range(count)]


def spread(starts: np.ndarray, shots: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Choose `count` of the windows (start, shot), one a shot before a second of any, far apart within a shot."""
    of_shot = {shot: starts[shots == shot] for shot in np.unique(shots)}
    turns: list[tuple[int, int]] = []
    for turn in range(count):
        for shot, inside in of_shot.items():
            # The middle, then the middles of both halves, and so on.
            share = (2 * (turn + 1 - 2 ** (turn + 1).bit_length() // 2) + 1) / 2 ** (turn + 1).bit_length()
            start = int(inside[int(share * len(inside))])
            if (start, int(shot)) not in turns:
                turns.append((start, int(shot)))
    step = max(1, len(of_shot) / count)  # with more shots than windows: shots from all over the film
    return [turns[int(i * step)] for i in range(min(count, len(turns)))]


def ways(
    interpolators: dict[str, Interpolator], through_tokenizer: RoundTrip, truth: np.ndarray, num_steps: int
) -> dict[str, np.ndarray]:
    """Return the eight frames between, as each method makes them; `interpolators` are named by what they are called."""
    _, height, width, _ = truth.shape
    ends = truth[[0, 9]]
    generated = {
        name: each.interpolate(ends, height=height, width=width, num_steps=num_steps).frames[1:9]
        for name, each in interpolators.items()
    }
    return generated | {
        "blend": blend(*ends, count=8),
        "nearest": nearest(*ends, count=8),
        "tokenizer": through_tokenizer(truth)[1:9],
    }


def scores(made: dict[str, np.ndarray], truth: np.ndarray) -> dict[str, dict[str, Score]]:
    """Return the PSNR in dB, the SSIM and both measures of edges of what every method made of the ten frames `truth`.

    Where the networks made them without quantisation too, there is also the PSNR of both to each other.
    """
    moving, between = moving_mask(truth[0], truth[9]), truth[1:9]
    found: dict[str, dict[str, Score]] = {
        "psnr": {way: psnr(frames, between, moving)[:2] for way, frames in made.items()},
        "ssim": {way: ssim(frames, between, moving)[:2] for way, frames in made.items()},
        "sharpness": {way: sharpness(frames, between, moving) for way, frames in made.items()},
        "edges_in_place": {way: edges_in_place(frames, between, moving) for way, frames in made.items()},
    }
    if UNQUANTIZED in made:
        found[TO_UNQUANTIZED] = {OURS: psnr(made[OURS], made[UNQUANTIZED], moving)[:2]}
    return found


def round_trip(interpolator: Interpolator) -> RoundTrip:
    """Return the function that encodes and decodes the first nine frames; it is compiled once per size."""
    codec = interpolator.codec

    def there_and_back(params, x):
        tokenizer = codec.network.bind(params)
        return tokenizer.decode(tokenizer.encode(x))

    compiled = codec.jit(there_and_back)

    def through_tokenizer(truth: np.ndarray) -> np.ndarray:
        pixels = truth[None, :9].astype(np.float32) / 128 - 1
        out = np.asarray(compiled(codec.params, pixels))[0]
        return (np.clip(1 + out, 0, 2) / 2 * 255).astype(np.uint8)

    return through_tokenizer


def sharpness(made: np.ndarray, truth: np.ndarray, moving: np.ndarray) -> Score:
    """Return how steep the frames are, over how steep the true ones are: below 1 is softer than the truth."""
    ours, true = steepness(made), steepness(truth)
    inside = moving[:-1, :-1]
    return _share(ours.mean(), true.mean()), _share(ours[:, inside].sum(), true[:, inside].sum())


def edges_in_place(made: np.ndarray, truth: np.ndarray, moving: np.ndarray) -> Score:
    """Return the true frames' gradients times those of `made`, summed, over their squares.

    It is the factor by which the true gradients have to be multiplied to come nearest to those that were made.
    """
    true = gradients(truth)
    found, whole = (gradients(made) * true).sum(0), (true * true).sum(0)
    inside = moving[:-1, :-1]
    return _share(found.sum(), whole.sum()), _share(found[:, inside].sum(), whole[:, inside].sum())


def steepness(frames: np.ndarray) -> np.ndarray:
    """Return the length of the gradient of brightness between neighbouring pixels."""
    return np.hypot(*gradients(frames))


def gradients(frames: np.ndarray) -> np.ndarray:
    """Return the differences of brightness to the next pixel below and to the right, [2, F, Y - 1, X - 1]."""
    grey = frames.astype(np.float64).mean(-1)
    return np.stack([np.diff(grey, axis=1)[:, :, :-1], np.diff(grey, axis=2)[:, :-1]])


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def measure(
    windows: list[Window],
    lines: Path,
    about: dict[str, Any],
    make: Callable[[Window], tuple[np.ndarray, dict[str, np.ndarray]]],
    seconds: float,
) -> list[dict[str, Any]] | None:
    """Return the lines of all windows, after measuring those that `lines` lacks; None if the time ran out.

    `about` says of what they are, and `make` gives the true frames of a window and what every way makes of them.
    """
    known = {line["window"]: line for line in read_lines(lines) if about.items() <= line.items()}
    end = time.monotonic() + seconds
    for window in windows:
        if window.name in known:
            continue
        if time.monotonic() > end:
            return None
        started = time.monotonic()
        truth, made = make(window)
        line = {"window": window.name, "group": window.group, "shot": window.shot, **about, **scores(made, truth)}
        line["seconds"] = round(time.monotonic() - started, 2)
        add_line(lines, line)
        known[window.name] = line
    return [known[window.name] for window in windows]


def add_line(path: Path, line: dict[str, Any]) -> None:
    """Append a line to a file, and end the one before if it was cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_bytes() if path.exists() else b""
    cut = before != b"" and not before.endswith(b"\n")
    with path.open("a") as file:
        file.write(("\n" if cut else "") + json.dumps(line) + "\n")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Return the lines of a file, except one that was cut off."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the means by class, with the numbers of windows and shots."""
    found: dict[str, Any] = {
        "shots": len({line["shot"] for line in lines if line["shot"] is not None}),
        "scenes": sum(line["shot"] is None for line in lines),
        "windows": {},
    }
    for group in dict.fromkeys(line["group"] for line in lines):
        rows = [line for line in lines if line["group"] == group]
        found["windows"][group] = len(rows)
        for measure, digits in MEASURES:
            if measure not in rows[0]:
                continue
            of_way = {way: [_mean(row[measure][way][i] for row in rows) for i in (0, 1)] for way in rows[0][measure]}
            rounded = {way: [value and round(value, digits) for value in both] for way, both in of_way.items()}
            found.setdefault(measure, {})[group] = rounded
    near = [line[TO_UNQUANTIZED][OURS][0] for line in lines if TO_UNQUANTIZED in line]
    if there := [value for value in near if value is not None]:
        found[f"least_{TO_UNQUANTIZED}"] = round(min(there), 2)
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known; None if none is."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def weights_digest(converted: Path) -> str:
    """Return a short hash of the manifests of a folder's networks."""
    manifests = [
        find_component(converted, name).path / MANIFEST_FILE for name in ("diffusion_transformer", "tokenizer")
    ]
    return hashlib.sha256(b"".join(path.read_bytes() for path in manifests)).hexdigest()[:12]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("film", type=Path)
    arguments.add_argument("--converted", type=Path, default=Path("demo/converted"))
    arguments.add_argument("--count", type=int, default=20, help="windows a class, and scenes")
    arguments.add_argument("--num-steps", type=int, default=1, help="as the demo, unless told otherwise")
    arguments.add_argument("--dtype", choices=get_args(Precision), default="float32")
    arguments.add_argument("--quantization", choices=get_args(Quantization), default="none")
    arguments.add_argument("--lines", type=Path, default=Path("demo/evaluation.jsonl"))
    arguments.add_argument("--output", type=Path)
    arguments.add_argument("--seconds", type=float, default=float("inf"), help="begin no window after this time")
    options = arguments.parse_args()
    frames = film.read_film(options.film)
    windows = choose_windows(film.split(frames), options.count)
    rendered = np.asarray(scenes.render(jax.random.key(SCENE_SEED), options.count, *frames.shape[1:3]))
    kinds: dict[str, Quantization] = {OURS: options.quantization}
    if options.quantization != "none":
        kinds[UNQUANTIZED] = "none"
    interpolators = {
        name: Interpolator.from_pretrained(options.converted, dtype=options.dtype, quantization=kind)
        for name, kind in kinds.items()
    }
    through_tokenizer = round_trip(interpolators[OURS])

    def make(window: Window) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        film_window = frames[window.start : window.start + film.WINDOW]
        truth = rendered[window.start] if window.shot is None else film_window
        return truth, ways(interpolators, through_tokenizer, truth, options.num_steps)

    about = {"num_steps": options.num_steps, "weights": weights_digest(options.converted)}
    about |= {"dtype": options.dtype, "quantization": options.quantization}
    lines = measure(windows, options.lines, about, make, options.seconds)
    if lines is None:
        print("not done yet: run the same command again")
        return
    found = summary(lines)
    for group, whole in found["psnr"].items():
        alike = found["ssim"][group]
        print(f"{group}: " + ", ".join(f"{way} {whole[way]} dB, {alike[way]}" for way in whole))
    if options.output:
        add_line(options.output, environment() | {"benchmark": "demo", **about, **found})
    print("done")


if __name__ == "__main__":
    main()
