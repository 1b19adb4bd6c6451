"""Run the stages one by one: encode a pair, sample its latents, decode them; and watch what the sampler is told.

```
make demo
.venv/bin/python examples/one_stage_at_a_time.py jax_interp/demo/clip.mp4
```
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from jax_interp import DEFAULT_NEGATIVE_PROMPT, Interpolator

HEIGHT, WIDTH, SEED, CONDITION_SIGMA = 128, 192, 11, 0.001


def watched_noise(shape: tuple[int, ...], heard: list[int]) -> Callable[[int], tuple[float, np.ndarray]]:
    """Return a function that gives the condition noise of every evaluation, as `condition_noise` takes it.

    `shape` is that of the latents, [T, H, W, C]; the noise is drawn with channels first, as upstream draws it. `heard`
    collects the numbers of the evaluations, counted as upstream counts them, two branches a step: at guidance -1 only
    odd numbers are heard. Returning the same noise each time is what the name "fixed" stands for. Another function may
    draw anew each time.
    """
    frames, height, width, channels = shape
    drawn = np.random.RandomState(SEED).standard_normal((channels, frames, height, width))
    noise = np.moveaxis(drawn, 0, -1).astype(np.float32)

    def draw(call_index: int) -> tuple[float, np.ndarray]:
        heard.append(call_index)
        return CONDITION_SIGMA, noise

    return draw


def run(converted: Path, first: np.ndarray, last: np.ndarray, num_steps: int) -> tuple[np.ndarray, list[int]]:
    """Return one pair's frames, uint8 [10, HEIGHT, WIDTH, 3], and the numbers of the evaluations that were made."""
    interpolator = Interpolator.from_pretrained(converted, dtype="float32")
    heard: list[int] = []
    text = interpolator.encode_text(DEFAULT_NEGATIVE_PROMPT)  # [1, 512, D]
    condition = interpolator.encode_pair(first, last, HEIGHT, WIDTH)  # [T, H, W, C]; the middle latent frame is free
    latents = interpolator.sample(
        condition, None, text, seed=SEED, num_steps=num_steps, condition_noise=watched_noise(condition.shape, heard)
    )
    return interpolator.decode(latents), heard


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("clip", type=Path)
    arguments.add_argument("--converted", type=Path, default=Path("demo/converted"))
    arguments.add_argument("--num-steps", type=int, default=10)
    options = arguments.parse_args()
    first, last = iio.imread(options.clip)[:2]
    frames, heard = run(options.converted, first, last, options.num_steps)
    print(f"{len(frames)} frames after {len(heard)} evaluations")


if __name__ == "__main__":
    main()
