"""An animated WebP as a clip. (APNG and GIF are read as videos are.)"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jax_interp.errors import MediaError
from jax_interp.media.pictures.header import PictureHeader, opened
from jax_interp.media.pictures.pixels import to_rgb, turn
from jax_interp.media.rates import frame_rate
from jax_interp.media.source import FrameSource, Picture

_MILLISECOND = Fraction(1, 1000)
_MOST_CHUNKS = 10_000_000


def open_animation(path: Path, header: PictureHeader) -> FrameSource:
    """A source of an animation's frames, decoded one at a time; alpha is ignored.

    `fps` is the mean rate, as of a video whose frames are shown for different times.

    Raises:
        OSError: the file cannot be read.
    """
    fps = frame_rate((), _start_times(path), _MILLISECOND)
    return FrameSource(
        num_frames=header.num_pictures,
        height=header.height,
        width=header.width,
        fps=fps,
        description={
            "kind": "animation",
            "path": str(path),
            "frames": header.num_pictures,
            "height": header.height,
            "width": header.width,
            "fps": str(fps) if fps else "unknown",
        },
        read=lambda: _read(path, header),
    )


def _read(path: Path, header: PictureHeader) -> Iterator[Picture]:
    with opened(path) as image:
        for index in range(header.num_pictures):
            try:
                image.seek(index)
                frame, _ = to_rgb(path, image)
            except Exception as error:  # picture decoders raise whatever their parser stumbles over
                reason = str(error) or type(error).__name__
                raise MediaError(f"{path}: damaged at frame {index} ({reason}); get the whole file") from error
            yield np.ascontiguousarray(turn(frame, header.orientation))


def _start_times(path: Path) -> NDArray[np.int64]:
    """When each frame appears, in milliseconds: the sum of the durations before, each in its ANMF chunk."""
    durations = []
    with path.open("rb") as file:
        at, size = 12, file.seek(0, 2)
        for _ in range(_MOST_CHUNKS):
            if at + 8 > size:
                break
            file.seek(at)
            head = file.read(24)
            if head[:4] == b"ANMF":
                durations.append(int.from_bytes(head[20:23], "little"))
            length = int.from_bytes(head[4:8], "little")
            at += 8 + length + length % 2
    return np.cumsum([0, *durations[:-1]], dtype=np.int64)
