"""A reader of video files, through PyAV: packets are counted without decoding, then decoded once in display order."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from jax_interp.errors import MediaError
from jax_interp.media.pictures.pixels import COMPOSITE, Background, report_transparency
from jax_interp.media.read_settings import ReadSettings
from jax_interp.media.source import MAX_PIXELS, FrameSource, Picture
from jax_interp.media.video.color import RGB, RGBA, ColorConverter
from jax_interp.media.video.container import decoding_errors, open_input
from jax_interp.media.video.deinterlace import deinterlaced
from jax_interp.media.video.packets import Packets, scan_packets
from jax_interp.media.video.rates import frame_rate, frame_times
from jax_interp.media.video.traits import Traits, traits_of
from jax_interp.media.video.transport_stream import ends_within_frame
from jax_interp.media.video.truncation import find_truncation

logger = logging.getLogger("jax_interp")

DEFAULT_READING = ReadSettings()

_ODDEST_PIXELS = 4
"""How many times as wide as high, or as high as wide, pixels may be; no video format has odder ones."""

_HIDDEN_FRAME_CODECS = ("vp8",)
"""Codecs whose packets may hold a frame that is never shown, so that packets say nothing about frames."""

_NOTICING_CODECS = ("h264", "mpeg1video", "mpeg2video", "mpeg4")
"""Codecs whose decoder reports a frame of which a part is missing. HEVC's decoder conceals it."""


def open_video(
    path: Path,
    *,
    at_least: int = 2,
    reading: ReadSettings = DEFAULT_READING,
    background: Background = "black",
) -> FrameSource:
    """Open a video file as a `FrameSource`; every coded frame counts once, whatever its time stamp.

    `num_frames` is the number of packets that a pass over the file finds, without decoding. It is counted by decoding
    where packets are no safe guide: the container's own count differs (edit lists, damage), the stream does not start
    with a key frame, or the codec hides frames. `fps` is the container's rate if it agrees with the time stamps, else
    the mean rate of the time stamps. Rotation and mirroring in the metadata are applied; transparent parts are
    composited over `background`; colours are converted by the stream's tags (where there are none, HD by BT.709 and SD
    by BT.601) and rounded to 8 bits. Pixels that are not square stay so, which `pixel_aspect` says. HDR and interlaced
    frames are read as `reading` says. What was done is logged, and stands in the description.

    Raises:
        MediaError: the file is unreadable, has no video stream, is truncated or damaged, has fewer than `at_least`
            frames, or is HDR, which `reading` refuses.
    """
    with _opened(path) as (container, stream):
        try:
            packets = scan_packets(container, stream)
        except decoding_errors() as error:
            raise MediaError(f"{path}: the file is damaged ({error}); get it anew") from error
        codec, pixel_format = stream.codec_context.name, stream.codec_context.pix_fmt
        if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
            raise MediaError(f"{path}: frames may have {MAX_PIXELS:,} pixels at most; make them smaller")
        in_doubt = container.format.name == "mpegts" and ends_within_frame(path, stream.id)
        _check_complete(path, container, packets, in_doubt and codec not in _NOTICING_CODECS)
        if container.format.name.startswith("mov") and stream.frames > packets.shown:
            _check_samples(path, stream.frames)
        trusted = packets.complete and stream.frames in (0, packets.shown)
        trusted = trusted and codec not in _HIDDEN_FRAME_CODECS and not in_doubt
        # From PyAV 19 on these are rationals of its own, which cannot be rounded.
        stated = [Fraction(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
        tick = Fraction(stream.time_base)
        pixel_aspect = _plausible_aspect(stream.sample_aspect_ratio)
        fps = frame_rate(stated, packets.times, tick)
    num_frames = packets.shown if trusted else sum(1 for _ in _decode(path))
    first = next(_decode(path), None)
    if first is None or num_frames < at_least:
        raise MediaError(f"{path}: holds {min(num_frames, 1)} frame(s); at least {at_least} needed")
    traits = traits_of(first, codec)
    said = _say(path, traits, reading, background)
    height, width, _ = _orientation(first)(np.empty((first.height, first.width, 1), np.uint8)).shape
    if _is_turned(first):
        pixel_aspect = 1 / pixel_aspect
    if pixel_aspect != 1:
        said["pixel_aspect"] = str(pixel_aspect)
    return FrameSource(
        num_frames=num_frames,
        height=height,
        width=width,
        fps=fps,
        description={
            "kind": "video",
            "path": str(path),
            "frames": num_frames,
            "height": height,
            "width": width,
            "fps": str(fps) if fps else "unknown",
            "codec": codec,
            "pixel_format": pixel_format or "unknown",
            **said,
        },
        read=lambda: _read_frames(path, num_frames, traits, reading, background),
        times=frame_times(packets.times, tick, fps, num_frames, packets.end) if fps else None,
        pixel_aspect=pixel_aspect,
    )


def _plausible_aspect(stated: Any) -> Fraction:
    """Return the width of a pixel over its height, 1 where nothing is stated or what is stated cannot be meant."""
    aspect = Fraction(stated or 1)
    return aspect if Fraction(1, _ODDEST_PIXELS) <= aspect <= _ODDEST_PIXELS else Fraction(1)


def _is_turned(frame: Any) -> bool:
    """Whether a frame is set upright by a quarter turn."""
    return _orientation(frame)(np.empty((1, 2, 1), np.uint8)).shape[:2] == (2, 1)


def _say(path: Path, traits: Traits, reading: ReadSettings, background: Background) -> dict[str, str]:
    """Log what is done with HDR and interlaced frames, and return it for the record; raises `MediaError` for HDR."""
    said = {"colors": traits.colors}
    if traits.untagged_matrix is not None:
        logger.info("%s: its colours are %s", path, traits.colors)
    if traits.hdr is not None and reading.hdr == "refuse":
        raise MediaError(f"{path}: is HDR ({traits.hdr}), which --hdr refuse refuses; give an SDR version of it")
    if traits.hdr is not None:
        said["hdr"] = f"{traits.hdr}, tone-mapped to BT.709"
        logger.info("%s: is HDR (%s) and is tone-mapped to BT.709", path, traits.hdr)
    if traits.is_interlaced and reading.interlaced == "keep":
        said["interlaced"] = "kept"
        logger.warning("%s: is interlaced, so moving edges have combs that are interpolated as they are", path)
    elif traits.is_interlaced:
        said["interlaced"] = "deinterlaced by bwdif"
        logger.info("%s: is interlaced and is deinterlaced (bwdif)", path)
    if traits.has_alpha:
        said["transparency"] = f"laid over {background}"
    return said


@contextmanager
def _opened(path: Path, **options: str) -> Iterator[tuple[Any, Any]]:
    """The container and its best video stream; closed afterwards. `options` are the container format's."""
    with open_input(path, **options) as container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise MediaError(f"{path}: holds no video stream that can be decoded")
        yield container, stream


def _check_complete(path: Path, container: Any, packets: Packets, ends_within_frame: bool) -> None:
    """Raise `MediaError` if the file ends before its own structure does, or a packet before its own end."""
    cut = find_truncation(path, container.format.name)
    if packets.broken is not None or ends_within_frame:
        cut = cut or "a part of that frame is missing"
    if cut is not None:
        raise _cut_off(path, packets.shown if packets.broken is None else packets.broken, cut)


def _check_samples(path: Path, promised: int) -> None:
    """Raise `MediaError` if fewer frames are there than promised, those counted that an edit list leaves out."""
    with _opened(path, ignore_editlist="1") as (container, stream):
        found = sum(packet.size > 0 for packet in container.demux(stream))
    if found < promised:
        raise _cut_off(path, found, f"{promised} frames are announced")


def _decode(path: Path) -> Iterator[Any]:
    """Decoded frames in display order, one at a time; a damaged one raises `MediaError` with its index."""
    index = 0
    with _opened(path) as (container, stream):
        # Several frames at once would be faster, but then a damaged one is not always said to be damaged.
        stream.thread_type = "SLICE"
        frames = container.decode(stream)
        while True:
            try:
                frame = next(frames, None)
            except decoding_errors() as error:
                raise _damaged(path, index, getattr(error, "strerror", None) or str(error)) from error
            if frame is None:
                return
            if frame.is_corrupt:
                raise _damaged(path, index, "parts of the picture are missing")
            yield frame
            index += 1


def _read_frames(
    path: Path, num_frames: int, traits: Traits, reading: ReadSettings, background: Background
) -> Iterator[Picture]:
    """`num_frames` upright RGB frames, all of the first one's size; transparent parts are laid over `background`."""
    converter = ColorConverter(RGBA if traits.has_alpha else RGB, traits.untagged_matrix)
    decoded = _same_size(path, _decode(path))
    orient: Callable[[Picture], Picture] | None = None
    index, said = -1, False
    for index, frame in enumerate(decoded if reading.interlaced == "keep" else deinterlaced(decoded)):
        orient = orient or _orientation(frame)
        if index >= num_frames:
            return
        picture = converter.convert(frame).to_ndarray()
        if traits.has_alpha:
            picture, transparent = COMPOSITE[background](picture[..., :3], picture[..., 3:], 255)
            if transparent and not said:
                said = True
                report_transparency(path, background)
        yield orient(picture)
    if index + 1 < num_frames:
        raise _damaged(path, index + 1, f"the data ends there, {num_frames} frames were counted")


def _same_size(path: Path, frames: Iterator[Any]) -> Iterator[Any]:
    """Yield decoded frames; raises `MediaError` at one that has not the first one's size."""
    size: tuple[int, int] | None = None
    for index, frame in enumerate(frames):
        size = size or (frame.width, frame.height)
        if size != (frame.width, frame.height):
            raise MediaError(
                f"{path}: frame {index} is {frame.width}x{frame.height}, the first one {size[0]}x{size[1]};"
                " a clip must have one size, so cut it there"
            )
        yield frame


def _orientation(frame: Any) -> Callable[[Picture], Picture]:
    """Return how to set a frame upright by its display matrix (multiples of 90 degrees and mirror images)."""
    from av.sidedata.sidedata import Type

    try:
        side_data = frame.side_data.get(Type.DISPLAYMATRIX)
    except ValueError:
        # PyAV knows no name for what lies beside the matrix (EXIF in Motion JPEG), and then gives the angle only.
        quarters = frame.rotation // 90
        return lambda picture: np.ascontiguousarray(np.rot90(picture, quarters))
    if side_data is None:
        return lambda picture: picture
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
    # A pixel (x, y) is shown at (a x + c y, b x + d y).
    swapped = abs(b) > abs(a)
    flip_x, flip_y = (c < 0, b < 0) if swapped else (a < 0, d < 0)

    def orient(picture: Picture) -> Picture:
        upright = picture.transpose(1, 0, 2) if swapped else picture
        return np.ascontiguousarray(upright[:: -1 if flip_y else 1, :: -1 if flip_x else 1])

    return orient


def _cut_off(path: Path, index: int, reason: str) -> MediaError:
    return MediaError(
        f"{path}: cut off or damaged at frame {index} ({reason});"
        " get the whole file, or copy the part that is left to a new one"
    )


def _damaged(path: Path, index: int, reason: str) -> MediaError:
    return MediaError(
        f"{path}: damaged at frame {index} ({reason}); cut the clip before that frame, or let a repair tool rewrite it"
    )
