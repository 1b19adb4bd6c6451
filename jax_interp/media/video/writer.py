"""A writer of video files, which encodes frames as they come: the file appears complete or not at all."""

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jax_interp.errors import MediaError, UsageError
from jax_interp.files.partial import PartialOutput
from jax_interp.media.output import as_media_error, check_frame_array, discarded_on_error
from jax_interp.media.output_rate import FASTEST, SLOWEST, exact_rate
from jax_interp.media.source import RgbFrames
from jax_interp.media.video.color import BT709, LIMITED_RANGE, ColorConverter, Target
from jax_interp.media.video.streams import MUXERS, CarriedStreams
from jax_interp.media.video.x264 import THREADS, x264_options


@dataclass(frozen=True)
class VideoCodec:
    """A video codec: its encoder, and the pixel formats, qualities and suffixes that go with it."""

    encoder: str
    pixel_formats: tuple[str, ...]
    """The pixel formats that it takes; the first is the default."""
    crf: int | None
    """The default quality (constant rate factor); None where the codec is lossless and has no such setting."""
    suffixes: tuple[str, ...]


CODECS = {
    "h264": VideoCodec("libx264", ("yuv420p", "yuv422p", "yuv444p"), 14, (".mp4", ".mkv", ".mov")),
    "libx264rgb": VideoCodec("libx264rgb", ("rgb24",), 0, (".mp4", ".mkv", ".mov")),
    "ffv1": VideoCodec("ffv1", ("bgr0",), None, (".mkv",)),
}
"""The codecs that `VideoWriter` takes. ffv1, and libx264rgb at its default CRF 0, keep every frame bit for bit."""

_LARGEST_TERM = 2**31 - 1
"""The largest numerator or denominator of a rate: containers state it in 32 bits."""


class VideoWriter:
    """A writer of mp4, mkv or mov (by the suffix of `path`); it keeps one frame besides the encoder's own lookahead.

    The same frames, rate and settings give the same bytes, with the same build of PyAV on processors of one kind:
    however many cores there are and whatever the program did before. (Another kind of processor computes with other
    instructions, which may differ in the last bits.) mp4 and mov have the exact rate and exact time stamps; Matroska
    counts milliseconds, so its time stamps are rounded to the nearest one.

    H.264 is BT.709: converted with that matrix and tagged so; the default quality is visually lossless. In mp4 and mov
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
        codec: str = "h264",
        crf: int | None = None,
        pixel_format: str | None = None,
        carried: CarriedStreams | None = None,
    ):
        """Check everything; nothing is created before the block is entered.

        Args:
            path: the video; its folder is created if need be.
            fps: frames a second, exact as a fraction, as in Fraction(24000, 1001); floats near n/1.001 (23.976, 29.97)
                are read as that.
            height: in pixels.
            width: in pixels.
            codec: a key of `CODECS`.
            crf: 0 (lossless) to 51 (worst) for the H.264 codecs; None for the codec's default.
            pixel_format: None for the codec's default.
            carried: what is carried over from another file beside the pictures.

        Raises:
            UsageError: suffix, rate, size, codec, quality or pixel format do not go together; names every fault.
        """
        self._path = Path(path)
        faults = _file_faults(self._path, codec) + _codec_faults(codec, crf, pixel_format, height, width)
        if not fps > 0:
            faults.append(f"the rate must be positive, not {fps} frames a second")
        elif not SLOWEST <= fps <= FASTEST:
            faults.append(f"the rate must be from {float(SLOWEST):g} to {FASTEST} frames a second, not {fps}")
        elif max(exact_rate(fps).as_integer_ratio()) > _LARGEST_TERM:
            faults.append(f"give the rate as a fraction of whole numbers below {_LARGEST_TERM + 1:,}, not {fps}")
        if faults:
            raise UsageError(f"{path}: " + "; ".join(faults))
        self._fps, self._height, self._width = exact_rate(fps), height, width
        self._codec = CODECS[codec]
        self._crf = self._codec.crf if crf is None else crf
        self._pixel_format = pixel_format or self._codec.pixel_formats[0]
        self._is_yuv = self._pixel_format.startswith("yuv")
        self._converter = ColorConverter(Target(self._pixel_format, bt709=self._is_yuv))
        self._partial = PartialOutput(self._path)
        self._carried = carried
        self._container: Any = None
        self._stream: Any = None
        self.num_frames = 0

    def __enter__(self) -> Self:
        with discarded_on_error(self._path, self._discard):
            import av

            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.create_file()
            muxer = MUXERS[self._path.suffix.lower()]
            # Without bitexact Matroska gets random identifiers.
            options = {"fflags": "+bitexact"} if muxer == "matroska" else {"movflags": "+faststart"}
            self._container = av.open(f"file:{self.partial}", "w", format=muxer, container_options=options)
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
            MediaError: the disk is full or does not answer.
        """
        import av

        with as_media_error(self._path):
            for frame in check_frame_array(frames, self._height, self._width):
                picture = self._converter.convert(av.VideoFrame.from_ndarray(frame, format="rgb24"))
                picture.pts, picture.time_base = self.num_frames, 1 / self._fps
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

    def _add_stream(self) -> Any:
        options = {} if self._crf is None else x264_options() | {"crf": str(self._crf)}
        stream = self._container.add_stream(self._codec.encoder, rate=self._fps, options=options)
        stream.codec_context.thread_type, stream.codec_context.thread_count = "FRAME", THREADS
        stream.width, stream.height, stream.pix_fmt = self._width, self._height, self._pixel_format
        stream.time_base = stream.codec_context.time_base = 1 / self._fps
        if self._is_yuv:
            context = stream.codec_context
            context.color_primaries = context.color_trc = context.colorspace = BT709
            context.color_range = LIMITED_RANGE
        return stream

    def _discard(self) -> None:
        """Close without caring for what becomes of the file, and remove it."""
        if self._carried is not None:
            self._carried.close()
        if self._container is not None:
            with suppress(Exception):
                self._container.close()
        self._partial.discard()


def _file_faults(path: Path, codec: str) -> list[str]:
    faults = []
    if path.is_dir():
        faults.append("is a folder; name a file in it")
    if path.suffix.lower() not in MUXERS:
        faults.append(f"the suffix must be one of {', '.join(MUXERS)}, not {path.suffix or 'none'}")
    elif codec in CODECS and path.suffix.lower() not in CODECS[codec].suffixes:
        faults.append(f"codec {codec} needs {' or '.join(CODECS[codec].suffixes)}, not {path.suffix}")
    return faults


def _codec_faults(codec: str, crf: int | None, pixel_format: str | None, height: int, width: int) -> list[str]:
    if codec not in CODECS:
        return [f"codec {codec} is unknown; choose one of {', '.join(CODECS)}"]
    known, faults = CODECS[codec], []
    if height < 1 or width < 1:
        faults.append(f"the size must be positive, not {width}x{height}")
    if crf is not None and known.crf is None:
        faults.append(f"codec {codec} is lossless and takes no CRF")
    elif crf is not None and not 0 <= crf <= 51:
        faults.append(f"CRF must be 0 (lossless) to 51, not {crf}")
    chosen = pixel_format or known.pixel_formats[0]
    if chosen not in known.pixel_formats:
        faults.append(f"codec {codec} takes pixel format {' or '.join(known.pixel_formats)}, not {chosen}")
    if (chosen == "yuv420p" and (height % 2 or width % 2)) or (chosen == "yuv422p" and width % 2):
        faults.append(
            f"{width}x{height} is odd, and {chosen} halves the colour's size; use an even size, pixel format yuv444p or"
            " codec ffv1"
        )
    return faults
