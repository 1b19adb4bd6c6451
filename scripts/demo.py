"""`make demo`: convert the embedded checkpoint and interpolate the embedded clip, on any machine, in minutes.

The networks have the architecture of the real ones at toy size. Leaves `demo/interpolated.mp4`, its frames as PNG and
`demo/side_by_side.png`: the two ends of the first pair with what was generated between them.
"""

import sys
from pathlib import Path

import numpy as np

from jax_interp.cli.main import main

ASSETS = Path(__file__).parents[1] / "jax_interp" / "demo"
OUTPUT = Path("demo")
HEIGHT, WIDTH = 128, 192


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


def contact_sheet(frames: Path, sheet: Path, count: int) -> None:
    """The first `count` frames of a folder side by side, in rows of five."""
    import imageio.v3 as iio

    pictures = [iio.imread(path) for path in sorted(frames.glob("*.png"))[:count]]
    rows = [np.concatenate(pictures[start : start + 5], axis=1) for start in range(0, count, 5)]
    iio.imwrite(sheet, np.concatenate(rows))


if __name__ == "__main__":
    run("convert", "--checkpoint-dir", ASSETS / "checkpoints", "--output-dir", OUTPUT / "converted", "--no-check-md5")
    run(
        "generate", "--input", ASSETS / "clip.mp4", "--num-frame-pairs", "4",
        "--height", str(HEIGHT), "--width", str(WIDTH),
        "--checkpoint-dir", OUTPUT / "converted", "--video-save-folder", OUTPUT, "--video-save-name", "interpolated",
        "--save-frames", OUTPUT / "frames", "--overwrite", "--disable-prompt-upsampler", "--disable-guardrail",
    )  # fmt: skip
    contact_sheet(OUTPUT / "frames", OUTPUT / "side_by_side.png", count=10)
    print(f"look at {OUTPUT / 'interpolated.mp4'} and {OUTPUT / 'side_by_side.png'}")
