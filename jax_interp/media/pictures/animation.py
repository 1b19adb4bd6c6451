"""An animated WebP or PNG as a clip. (A GIF is read as videos are.)"""

import struct
from array import array
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jax_interp.errors import MediaError
from jax_interp.media.pictures.header import PictureHeader, opened
from jax_interp.media.pictures.pixels import Background, apply_orientation, report_transparency, to_rgb
from jax_interp.media.source import FrameSource, Picture
from jax_interp.media.video.rates import frame_rate, frame_times
from jax_interp.media.video.truncation import find_truncation

_MICROSECOND = Fraction(1, 1_000_000)
_MAX_CHUNKS = 10_000_000


def open_animation(path: Path, header: PictureHeader, background: Background = "black") -> FrameSource:
    """Open an animation, whose frames come one at a time, upright and opaque as `pixels.read_pixels` gives them.

    `fps` is the mean rate, as for a video whose frames are shown for different times. A still picture that an animated
    PNG holds for programs that cannot show animations is not part of the clip.

    Raises:
        MediaError: the file is cut off, or has 16 bits a channel.
        OSError: the file cannot be read.
    """
    cut = find_truncation(path, {"PNG": "apng", "WEBP": "webp"}[header.format])
    if cut is not None:
        raise MediaError(f"{path}: cut off or damaged ({cut}); get the whole file")
    if header.is_16_bit:
        raise MediaError(
            f"{path}: is an animated PNG with 16 bits a channel, which is not read;"
            " save its frames as single PNGs, and give their folder"
        )
    stamps, end = _start_times(path, header.format)
    fps = frame_rate((), stamps, _MICROSECOND)
    return FrameSource(
        num_frames=header.num_frames,
        height=header.height,
        width=header.width,
        fps=fps,
        description={
            "kind": "animation",
            "path": str(path),
            "frames": header.num_frames,
            "height": header.height,
            "width": header.width,
            "fps": str(fps) if fps else "unknown",
        },
        read=lambda: _read_frames(path, header, background),
        times=frame_times(stamps, _MICROSECOND, fps, header.num_frames, end) if fps else None,
    )


def _read_frames(path: Path, header: PictureHeader, background: Background) -> Iterator[Picture]:
    said = False
    with opened(path) as image:
        for index in range(header.num_frames):
            try:
                image.seek(header.num_pictures - header.num_frames + index)
                frame, transparent = to_rgb(path, image, background)
            except MediaError:
                raise
            except Exception as error:  # picture decoders raise whatever their parser stumbles over
                reason = str(error) or type(error).__name__
                raise MediaError(f"{path}: damaged at frame {index} ({reason}); get the whole file") from error
            if transparent and not said:
                said = True
                report_transparency(path, background)
            yield np.ascontiguousarray(apply_orientation(frame, header.orientation))


def _start_times(path: Path, format: str) -> tuple[NDArray[np.int64], int]:
    """Return the start time of each frame, the sum of the durations before, and when the last ends, in microseconds."""
    times, now = array("q"), 0.0
    for seconds in _webp_durations(path) if format == "WEBP" else _png_durations(path):
        times.append(round(now * 1e6))
        now += seconds
    return np.array(times, np.int64), round(now * 1e6)


def _webp_durations(path: Path) -> Iterator[float]:
    """Yield the duration of each frame of a WebP, which its ANMF chunk states in milliseconds."""
    with path.open("rb") as file:
        at = 12
        for _ in range(_MAX_CHUNKS):
            file.seek(at)
            head = file.read(24)
            if len(head) < 8:
                return
            if head[:4] == b"ANMF":
                yield int.from_bytes(head[20:23], "little") / 1000
            length = int.from_bytes(head[4:8], "little")
            at += 8 + length + length % 2


def _png_durations(path: Path) -> Iterator[float]:
    """Yield the duration of each frame of a PNG, a fraction of seconds in its fcTL chunk (denominator 0 means 100)."""
    with path.open("rb") as file:
        at = 8
        for _ in range(_MAX_CHUNKS):
            file.seek(at)
            head = file.read(32)
            if len(head) < 8:
                return
            length, kind = struct.unpack(">I4s", head[:8])
            if kind == b"fcTL" and len(head) == 32:
                numerator, denominator = struct.unpack(">HH", head[28:32])
                yield numerator / (denominator or 100)
            at += 12 + length
