"""Clips as people have them: with sound, a cut, animation on twos, or from a phone."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.media import clips

SOUND_RATE = 48000

_SUBTITLES = {
    "mov_text": b"\0\4clap",
    "subrip": b"<i>clap</i>",
    "webvtt": b"<i>clap</i>",
    "ass": rb"0,0,Default,,0,0,0,,{\i1}clap",
}
"""The packet that says "clap", by the kind of subtitles."""


def moving_square(num_frames: int, height: int, width: int, color: tuple[int, int, int], step: int = 2) -> np.ndarray:
    """A square of 16 pixels that moves `step` pixels a frame over a plain ground, uint8 [F, Y, X, 3]."""
    frames = np.full((num_frames, height, width, 3), color, np.uint8)
    for index, frame in enumerate(frames):
        left = (4 + index * step) % (width - 16)
        frame[height // 2 - 8 : height // 2 + 8, left : left + 16] = 255 - np.array(color, np.uint8)
    return frames


def with_cut(num_frames: int, cut: int, height: int = clips.HEIGHT, width: int = clips.WIDTH) -> np.ndarray:
    """Two scenes, of which the second begins at frame `cut`."""
    first = moving_square(num_frames, height, width, (200, 60, 30))
    second = moving_square(num_frames, height, width, (20, 40, 120))
    return np.concatenate([first[:cut], second[: num_frames - cut]])


def on_twos(num_frames: int, height: int = clips.HEIGHT, width: int = clips.WIDTH) -> np.ndarray:
    """Animation of which every drawing is shown for two frames."""
    drawings = moving_square((num_frames + 1) // 2, height, width, (60, 120, 60), step=4)
    return np.repeat(drawings, 2, axis=0)[:num_frames]


def claps(times: list[float], seconds: float) -> np.ndarray:
    """Mono sound, float32 [1, samples], silent but for a burst of 10 ms at each of `times`."""
    samples = np.zeros((1, round(seconds * SOUND_RATE)), np.float32)
    burst = 0.8 * np.sin(np.arange(480) * 2 * np.pi * 2000 / SOUND_RATE)
    for time in times:
        start = round(time * SOUND_RATE)
        samples[0, start : start + 480] = burst[: samples.shape[1] - start]
    return samples


def write_film(
    path: Path,
    frames: np.ndarray,
    sound: np.ndarray | None,
    *,
    rate: Fraction | int = 24,
    times_ms: list[int] | None = None,
    sound_codec: str = "aac",
    subtitles: str | None = None,
    subtitle: bytes | None = None,
) -> Path:
    """Write a film of frames and mono sound with metadata, a language, a chapter and subtitles of a codec.

    The subtitle says "clap" from 0.5 s on, for 0.4 s; where it can, in italics. `subtitle` is another packet for it.
    """
    with av.open(str(path), "w") as container:
        container.metadata.update({"title": "Square", "comment": "made by a test"})
        container.set_chapters(
            [{"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "Opening"}}]
        )
        video = container.add_stream("libx264", rate=rate, options={"crf": "4", "preset": "veryfast"})
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        audio = None
        if sound is not None:
            audio = container.add_stream(sound_codec, rate=SOUND_RATE, layout="mono")
            audio.metadata["language"] = "deu"
        titles = _add_subtitles(container, subtitles) if subtitles else None
        if times_ms:
            video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        for index, frame in enumerate(frames):
            picture = clips.convert(frame, "yuv420p")
            picture.pts, picture.time_base = index, 1 / Fraction(rate)
            if times_ms:
                picture.pts, picture.time_base = times_ms[index], Fraction(1, 1000)
            container.mux(video.encode(picture))
        container.mux(video.encode())
        if audio is not None and sound is not None:
            _write_sound(container, audio, sound)
        if titles is not None:
            packet: Any = av.Packet(subtitle or _SUBTITLES.get(str(subtitles), b"picture"))
            packet.stream, packet.time_base = titles, Fraction(1, 1000)
            packet.pts, packet.dts, packet.duration = 500, 500, 400
            container.mux(packet)
    return path


def _add_subtitles(container, kind: str) -> Any:
    if kind != "ass":
        return container.add_mux_stream(kind)
    stream = container.add_stream("ass")
    with av.open(io.BytesIO(b"1\n00:00:01,000 --> 00:00:02,000\nclap\n"), format="srt") as other:
        context = other.streams.subtitles[0].codec_context
        context.open()
        stream.codec_context.subtitle_header = context.subtitle_header
    return stream


def _write_sound(container, stream, sound: np.ndarray) -> None:
    context = stream.codec_context
    resampler = av.AudioResampler(format=context.format.name, layout="mono", rate=SOUND_RATE)
    frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, 0, Fraction(1, SOUND_RATE)
    for each in [*resampler.resample(frame), *resampler.resample(None)]:
        for packet in stream.encode(each):
            container.mux(packet)
    for packet in stream.encode(None):
        container.mux(packet)


def clap_times(path: Path, threshold: float = 0.2, gap: float = 0.1) -> list[float]:
    """The times in seconds at which sound begins after `gap` seconds of silence, on the clock of the pictures."""
    with av.open(str(path)) as container:
        pieces = []
        for frame in container.decode(audio=0):
            samples = av.AudioResampler(format="flt", layout="mono", rate=SOUND_RATE).resample(frame)
            start = frame.time or 0.0
            pieces += [(start, np.concatenate([each.to_ndarray()[0] for each in samples]))]
    times: list[float] = []
    for start, samples in pieces:
        for index in np.flatnonzero(np.abs(samples) > threshold):
            moment = start + index / SOUND_RATE
            if not times or moment - times[-1] > gap:
                times.append(moment)
    return times


def flash_times(path: Path, level: float = 128) -> list[float]:
    """The times in seconds of the frames that are bright after dark ones."""
    with av.open(str(path)) as container:
        bright = [
            (frame.time or 0.0, frame.to_ndarray(format="gray").mean() > level) for frame in container.decode(video=0)
        ]
    return [time for (time, now), (_, before) in zip(bright[1:], bright, strict=False) if now and not before]


def packets(path: Path, kind: str) -> list[bytes]:
    """The contents of the packets of the first stream of a kind."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [bytes(packet) for packet in container.demux(stream) if packet.size]
