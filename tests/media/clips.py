"""Tiny clips made on the fly, with the oddities that real files have."""

import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat

HEIGHT, WIDTH = 48, 64


def ramp(num_frames: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Frames whose gray level says their index, so that order and completeness show in any codec."""
    levels = np.linspace(10, 240, num_frames).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3)).copy()


def waves(num_frames: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Smooth moving colours, uint8 [F, Y, X, 3]."""
    y, x = np.mgrid[:height, :width]
    phases = np.arange(num_frames)[:, None, None] / 3
    channels = [np.sin(x / 17 + phases), np.sin(y / 15 - phases), np.sin((x + y) / 23 + phases)]
    return (127 + 100 * np.stack(channels, -1)).astype(np.uint8)


def encode(
    path: Path,
    frames: np.ndarray,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    *,
    rate: Fraction | int = 24,
    times_ms: list[int] | None = None,
    last_ms: int | None = None,
    pixel_aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    audio_seconds: int = 0,
) -> Path:
    """Write `frames` with plain PyAV, without anything of the package; the last packet says that it lasts `last_ms`."""
    with av.open(str(path), "w", container_options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixel_format
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        sound = container.add_stream("aac", rate=48000) if audio_seconds else None
        if times_ms:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for index, frame in enumerate(frames):
            picture = convert(frame, pixel_format)
            picture.pts, picture.time_base = index, 1 / Fraction(rate)
            if times_ms:
                picture.pts, picture.time_base = times_ms[index], Fraction(1, 1000)
            container.mux(stream.encode(picture))
        rest = stream.encode()
        if last_ms is not None:
            rest[-1].duration = int(Fraction(last_ms, 1000) / rest[-1].time_base)
        container.mux(rest)
        if sound is not None:
            for packet in silence(sound, audio_seconds):
                container.mux(packet)
    return path


def convert(frame: np.ndarray, pixel_format: str, scale: str = "flags=accurate_rnd") -> av.VideoFrame:
    """An RGB frame in another pixel format. (`VideoFrame.reformat` to 10 bits leaves stray values now and then.)"""
    graph = Graph()
    height, width, _ = frame.shape
    source = graph.add_buffer(width=width, height=height, format=VideoFormat("rgb24"), time_base=Fraction(1, 24))
    nodes = [source, graph.add("scale", scale), graph.add("format", pixel_format), graph.add("buffersink")]
    for upstream, downstream in pairwise(nodes):
        upstream.link_to(downstream)
    graph.configure()
    graph.push(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
    converted = graph.pull()
    assert isinstance(converted, av.VideoFrame)
    return converted


def silence(stream, seconds: int):
    """Packets of silent stereo sound."""
    samples = av.AudioFrame.from_ndarray(np.zeros((2, 48000 * seconds), np.float32), format="fltp", layout="stereo")
    samples.rate = 48000
    return [*stream.encode(samples), *stream.encode()]


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Patch the track header of an mp4: a pixel (x, y) is to be shown at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def set_edit(path: Path, skip_frames: int, keep_seconds: float, ticks_per_frame: int = 512) -> None:
    """Patch the edit list of an mp4 so that players show `keep_seconds` after the first `skip_frames`."""
    data = bytearray(path.read_bytes())
    start = data.index(b"elst") + 12
    _, media_time = struct.unpack(">Ii", data[start : start + 8])
    data[start : start + 8] = struct.pack(">Ii", round(keep_seconds * 1000), media_time + skip_frames * ticks_per_frame)
    path.write_bytes(data)


def damage(path: Path, share: float, size: int = 200) -> None:
    """Overwrite `size` bytes at `share` of the file with noise."""
    data = bytearray(path.read_bytes())
    start = int(len(data) * share)
    data[start : start + size] = np.random.default_rng(1).bytes(size)
    path.write_bytes(data)


def names(folder: Path) -> list[str]:
    """What lies in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def truncate(path: Path, share: float) -> None:
    """Keep the first `share` of the file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
