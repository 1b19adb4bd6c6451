"""Make the film that the demo's networks learn from: Big Buck Bunny at 320×192, about 18 MB.

```
python scripts/prepare_film.py bbb.mp4 film.mp4
```

`bbb.mp4` is the whole film at 1280×720 and 24 frames a second. The source distribution of the PyPI package moviepy
2.2.1 has it, in `docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip`. The film is (c)
copyright 2008, Blender Foundation, www.bigbuckbunny.org, under Creative Commons Attribution 3.0.
"""

import argparse
from fractions import Fraction
from pathlib import Path

import av
from av.filter import Graph

WIDTH, HEIGHT, RATE = 320, 192, 24


def shrink(source: Path, target: Path, first: int = 0, count: int | None = None, crf: int = 21) -> int:
    """Write frames `first` to `first + count` of `source` at 320×192 as H.264; return how many there are."""
    written = 0
    with av.open(str(source)) as film, av.open(str(target), "w") as small:
        stream = film.streams.video[0]
        stream.thread_type = "AUTO"
        out = small.add_stream("libx264", rate=RATE, options={"crf": str(crf), "preset": "medium"})
        out.width, out.height, out.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        out.codec_context.color_range = out.codec_context.colorspace = 1
        out.codec_context.color_primaries = out.codec_context.color_trc = 1
        graph = Graph()
        scale = graph.add("scale", f"{WIDTH}:{HEIGHT}:flags=area")
        graph.link_nodes(graph.add_buffer(template=stream), scale, graph.add("buffersink")).configure()
        for number, frame in enumerate(film.decode(stream)):
            if number < first:
                continue
            if count is not None and written == count:
                break
            graph.push(frame)
            picture = graph.pull()
            picture.pts, picture.time_base = written, Fraction(1, RATE)
            assert isinstance(picture, av.VideoFrame)
            small.mux(out.encode(picture))
            written += 1
        small.mux(out.encode())
    return written


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("source", type=Path)
    arguments.add_argument("target", type=Path)
    arguments.add_argument("--first", type=int, default=0)
    arguments.add_argument("--count", type=int)
    arguments.add_argument("--crf", type=int, default=21)
    options = arguments.parse_args()
    print(shrink(**vars(options)), "frames")
