"""`make demo`: convert the embedded checkpoint and interpolate the embedded clip, on any machine, in minutes.

The networks have the architecture of the real ones at toy size. The clip is 37 frames of a film that they never saw; of
every nine only the first is used, the eight between are generated. Leaves `demo/interpolated.mp4`, its frames as PNG,
`demo/side_by_side.png` and `demo/side_by_side.webp`, which show the true frames, both ends blended, and the generated
ones.
"""

import sys
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from jax_interp.cli.main import main
from jax_interp.evaluation.baselines import blend

ASSETS = Path(__file__).parents[1] / "jax_interp" / "demo"
OUTPUT = Path("demo")
HEIGHT, WIDTH, STRIDE = 192, 320, 9
SHOWN = (0, 2, 4, 7, 9)
"""The frames of the first pair that the picture shows."""


def run(*arguments: str | Path) -> None:
    """Show and run one `jax-interp` command."""
    command = ["jax-interp", *map(str, arguments)]
    print("$", " ".join(command), flush=True)
    sys.argv = command
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise


def blended(truth: np.ndarray) -> np.ndarray:
    """Mix both ends of every pair as a cross-fade does; uint8 as `truth` [F, Y, X, 3]."""
    keyframes = truth[::STRIDE]
    parts = [[first[None], np.round(blend(first, last, STRIDE - 1))] for first, last in pairwise(keyframes)]
    return np.concatenate([*chain(*parts), keyframes[-1:]]).astype(np.uint8)


def compare(clip: Path, frames: Path, picture: Path, animation: Path) -> None:
    """Draw the true, the blended and the generated frames: some of the first pair in rows, and all of them moving."""
    import imageio.v3 as iio
    from PIL import Image

    truth = iio.imread(clip)
    generated = np.stack([iio.imread(path) for path in sorted(frames.glob("*.png"))])
    rows = [truth[: len(generated)], blended(truth)[: len(generated)], generated]
    chosen = list(SHOWN)
    iio.imwrite(picture, np.concatenate([np.concatenate(list(row[chosen]), axis=1) for row in rows]))
    moving = [Image.fromarray(np.concatenate(list(moment), axis=1)) for moment in zip(*rows, strict=True)]
    moving[0].save(animation, save_all=True, append_images=moving[1:], duration=1000 // 12, loop=0, quality=70)


if __name__ == "__main__":
    run("convert", "--checkpoint-dir", ASSETS / "checkpoints", "--output-dir", OUTPUT / "converted", "--no-check-md5")
    run(
        "generate", "--input", ASSETS / "clip.mp4", "--frame-stride", str(STRIDE),
        "--height", str(HEIGHT), "--width", str(WIDTH), "--num-steps", "1",
        "--checkpoint-dir", OUTPUT / "converted", "--video-save-folder", OUTPUT, "--video-save-name", "interpolated",
        "--save-frames", OUTPUT / "frames", "--overwrite", "--disable-prompt-upsampler", "--disable-guardrail",
    )  # fmt: skip
    sheet, animation = OUTPUT / "side_by_side.png", OUTPUT / "side_by_side.webp"
    compare(ASSETS / "clip.mp4", OUTPUT / "frames", sheet, animation)
    print(f"look at {OUTPUT / 'interpolated.mp4'}, {sheet} and {animation}: the truth, both ends blended, generated")
