"""A writer of video files, which encodes frames as they come: the file appears complete or not at all."""

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jax_interp.errors import MediaError, UsageError
from jax_interp.files.partial import PartialOutput
from jax_interp.media.output import as_media_error, check_frame_array, discarded_on_error
from jax_interp.media.output_rate import FASTEST, SLOWEST, exact_rate
from jax_interp.media.source import RgbFrames
from jax_interp.media.video.codecs import (
    ANIMATIONS,
    CODECS,
    MUXERS,
    EncodingSettings,
    check_length,
    rate_faults,
    size_faults,
)
from jax_interp.media.video.color import BT709, LIMITED_RANGE, ColorConverter, Target
from jax_interp.media.video.palette import PaletteConverter
from jax_interp.media.video.streams.carrying import CarriedStreams
from jax_interp.media.video.x264 import THREADS, x264_options

_LARGEST_TERM = 2**31 - 1
"""The largest numerator or denominator of a rate: containers state it in 32 bits."""


_MUXER_OPTIONS = {
    "mp4": {"movflags": "+faststart"},
    "mov": {"movflags": "+faststart"},
    "matroska": {"fflags": "+bitexact"},  # without it Matroska gets random identifiers
    "gif": {"loop": "0"},  # for ever
    "webp": {"loop": "0"},
}


def missing_encoder(codec: str) -> list[str]:
    """Return, as a list of faults, that the installed PyAV has no encoder for `codec`, a key of `CODECS`."""
    import av

    encoder = CODECS[codec].encoder
    if encoder in av.codecs_available:
        return []
    return [
        f"codec {codec} needs FFmpeg's encoder {encoder}, which the installed PyAV {av.__version__} was built without;"
        " install PyAV's own wheel (pip install --force-reinstall --only-binary av av), or choose another codec"
    ]


class VideoWriter:
    """A writer of mp4, mkv, mov, gif or webp (by the suffix of `path`); it keeps one frame besides the encoder's own.

    The same frames, rate and settings give the same bytes, with the same build of PyAV on processors of one kind:
    however many cores there are and whatever the program did before. (Another kind of processor computes with other
    instructions, which may differ in the last bits.) mp4 and mov have the exact rate and exact time stamps; Matroska
    and webp count milliseconds and gif hundredths of a second, to which their time stamps are rounded.

    YUV formats are BT.709: converted with that matrix and tagged so; the default quality is visually lossless. gif and
    webp are for short clips, of which they take `codecs.MOST_ANIMATION_PIXELS` pixels. In mp4 and mov
    the index comes first, so that players can start before they have the whole file. While open, the file has a hidden
    name of its own in the same folder (`files.partial`); at the end it replaces `path`. Leaving the block by an
    exception (KeyboardInterrupt too) removes it.
    """

    def __init__(
        self,
        path: Path,
        fps: Fraction | float,
        height: int,
        width: int,
        *,
        codec: str | None = None,
        crf: int | None = None,
        pixel_format: str | None = None,
        pixel_aspect: Fraction = Fraction(1),
        carried: CarriedStreams | None = None,
    ):
        """Check everything; nothing is created before the block is entered.

        Args:
            path: the video; its folder is created if need be.
            fps: frames a second, exact as a fraction, as in Fraction(24000, 1001); floats near n/1.001 (23.976, 29.97)
                are read as that.
            height: in pixels.
            width: in pixels.
            codec: a key of `CODECS`; None for h264, or the only one of gif and webp.
            crf: 0 (best; for h264 lossless) to 51, for av1 to 63; None for the codec's default.
            pixel_format: None for the codec's default.
            pixel_aspect: the width of a pixel over its height, which players stretch pictures by; animations lack it.
            carried: what is carried over from another file beside the pictures.

        Raises:
            UsageError: suffix, rate, size, codec, quality or pixel format do not go together, or PyAV was built
                without the encoder; names every fault.
        """
        self._path = Path(path)
        encoding = EncodingSettings(codec=codec, crf=crf, pixel_format=pixel_format)
        faults = ["is a folder; name a file in it"] if self._path.is_dir() else []
        faults += encoding.faults(self._path)
        if encoding.codec_for(self._path) in CODECS:
            faults += size_faults(self._path, encoding, height, width)
            faults += missing_encoder(encoding.codec_for(self._path))
        if not fps > 0:
            faults.append(f"the rate must be positive, not {fps} frames a second")
        elif not SLOWEST <= fps <= FASTEST:
            faults.append(f"the rate must be from {float(SLOWEST):g} to {FASTEST} frames a second, not {fps}")
        elif max(exact_rate(fps).as_integer_ratio()) > _LARGEST_TERM:
            faults.append(f"give the rate as a fraction of whole numbers below {_LARGEST_TERM + 1:,}, not {fps}")
        else:
            faults += rate_faults(self._path, fps)
        if faults:
            raise UsageError(f"{path}: " + "; ".join(faults))
        self._fps, self._height, self._width = exact_rate(fps), height, width
        chosen = encoding.complete(self._path)
        self._codec, self._crf, self._pixel_format = CODECS[str(chosen.codec)], chosen.crf, str(chosen.pixel_format)
        self._is_yuv = self._pixel_format.startswith("yuv")
        self._suffix = self._path.suffix.lower()
        self._tick = ANIMATIONS.get(self._suffix, 1 / self._fps)
        self._converter = self._make_converter()
        self._partial = PartialOutput(self._path)
        self._pixel_aspect = pixel_aspect
        self._carried = carried
        self._container: Any = None
        self._stream: Any = None
        self.num_frames = 0

    def __enter__(self) -> Self:
        with discarded_on_error(self._path, self._discard):
            import av

            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.create_file()
            muxer = MUXERS[self._suffix]
            self._container = av.open(
                f"file:{self.partial}", "w", format=muxer, container_options=_MUXER_OPTIONS[muxer]
            )
            self._stream = self._add_stream()
            if self._carried is not None:
                self._carried.begin(self._container)
            # Otherwise the file appears with the first packet, and a folder without write permission shows that late.
            self._container.start_encoding()
        return self

    def write(self, frames: RgbFrames) -> None:
        """Append frames, uint8 [F, Y, X, 3].

        Raises:
            ValueError: the dtype or size is not the announced one.
            UsageError: there are too many frames for an animation.
            MediaError: the disk is full or does not answer.
        """
        import av

        check_length(self._path, self.num_frames + len(frames), self._height, self._width)
        with as_media_error(self._path):
            for frame in check_frame_array(frames, self._height, self._width):
                picture = self._converter.convert(av.VideoFrame.from_ndarray(frame, format="rgb24"))
                picture.pts, picture.time_base = round(self.num_frames / (self._fps * self._tick)), self._tick
                self._container.mux(self._stream.encode(picture))
                self.num_frames += 1
                if self._carried is not None:
                    self._carried.mux_until(self.num_frames / self._fps)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        with discarded_on_error(self._path, self._discard):
            if not self.num_frames:
                raise MediaError(f"{self._path}: no frame was written, so there is no video")
            self._container.mux(self._stream.encode())
            if self._carried is not None:
                self._carried.finish()
                self._carried.close()
            self._container.close()
            self._partial.publish()

    @property
    def partial(self) -> Path:
        """The temporary file, while the writer is open."""
        return self._partial.path

    def _make_converter(self) -> ColorConverter | PaletteConverter:
        if self._pixel_format == "pal8":
            return PaletteConverter(self._height, self._width)
        return ColorConverter(Target(self._pixel_format, bt709=self._is_yuv))

    def _add_stream(self) -> Any:
        stream = self._container.add_stream(self._codec.encoder, rate=self._fps, options=self._encoder_options())
        context = stream.codec_context
        context.thread_type, context.thread_count = "FRAME", THREADS
        stream.width, stream.height, stream.pix_fmt = self._width, self._height, self._pixel_format
        stream.time_base = context.time_base = self._tick
        if self._pixel_aspect != 1 and self._suffix not in ANIMATIONS:
            context.sample_aspect_ratio = self._pixel_aspect
        if self._codec.apple_tag is not None and self._suffix != ".mkv":
            context.codec_tag = self._codec.apple_tag
        if self._is_yuv:
            context.color_primaries = context.color_trc = context.colorspace = BT709
            context.color_range = LIMITED_RANGE
        return stream

    def _encoder_options(self) -> dict[str, str]:
        options = dict(self._codec.options)
        if self._codec.encoder.startswith("libx264"):
            options |= x264_options()
        if self._codec.encoder == "prores_ks":
            options["profile"] = "4444" if "444" in self._pixel_format else "hq"
        if self._codec.encoder == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only; it otherwise prints its settings on standard error
        return options if self._crf is None else options | {"crf": str(self._crf)}

    def _discard(self) -> None:
        """Close without caring for what becomes of the file, and remove it."""
        if self._carried is not None:
            self._carried.close()
        if self._container is not None:
            with suppress(Exception):
                self._container.close()
        self._partial.discard()
