"""Generate the frames between two pictures, and write them as a video.

```
make demo                                                         # makes demo/converted, the networks used here
.venv/bin/python examples/two_pictures.py a.png b.png between.mp4
```
"""

import argparse
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from jax_interp import Interpolator


def between(converted: Path, first: np.ndarray, last: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return ten frames from `first` to `last` (uint8 [Y, X, 3]), both included, as uint8 [10, height, width, 3]."""
    interpolator = Interpolator.from_pretrained(converted)
    pair = np.stack([first, last])
    return interpolator.interpolate(pair, height=height, width=width).frames


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("first", type=Path)
    arguments.add_argument("last", type=Path)
    arguments.add_argument("video", type=Path)
    arguments.add_argument("--converted", type=Path, default=Path("demo/converted"))
    arguments.add_argument("--height", type=int, default=128)
    arguments.add_argument("--width", type=int, default=192)
    options = arguments.parse_args()
    first, last = (iio.imread(path)[..., :3] for path in (options.first, options.last))
    frames = between(options.converted, first, last, options.height, options.width)
    iio.imwrite(options.video, frames, fps=24, codec="libx264")
    print(f"{options.video}: {len(frames)} frames of {options.width}×{options.height}")


if __name__ == "__main__":
    main()
