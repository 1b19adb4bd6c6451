"""Make slow motion of a clip, or give it another rate, frame after frame; a clip of any length takes the same memory.

```
make demo                                                         # makes demo/converted, the networks used here
.venv/bin/python examples/slow_motion.py jax_interp/demo/clip.mp4 slow.mp4 --slow-motion 2
```
"""

import argparse
from pathlib import Path

import imageio.v3 as iio

from jax_interp import Aspect, InterpolatedClip, Interpolator, Size, Timeline


def slow_motion(converted: Path, clip: Path, timeline: Timeline, size: Size) -> InterpolatedClip:
    """Return `clip` as `timeline` asks, its shape kept, with networks that work at `size`."""
    interpolator = Interpolator.from_pretrained(converted)
    return interpolator.interpolate_clip(clip, timeline, aspect=Aspect(keep=True, size=size))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("clip", type=Path)
    arguments.add_argument("video", type=Path)
    arguments.add_argument("--converted", type=Path, default=Path("demo/converted"))
    arguments.add_argument("--slow-motion", default="1")
    arguments.add_argument("--rate")
    arguments.add_argument("--height", type=int, default=128)
    arguments.add_argument("--width", type=int, default=192)
    options = arguments.parse_args()
    timeline = Timeline(rate=options.rate, slow_motion=options.slow_motion, scene_cuts="off")
    slow = slow_motion(options.converted, options.clip, timeline, Size(options.height, options.width))
    print(f"{options.video}: {slow.num_frames} frames of {slow.width}×{slow.height}, {float(slow.rate):g} a second")
    with iio.imopen(options.video, "w", plugin="pyav") as file:
        file.init_video_stream("libx264", fps=float(slow.rate))
        for frame in slow:
            file.write_frame(frame)


if __name__ == "__main__":
    main()
