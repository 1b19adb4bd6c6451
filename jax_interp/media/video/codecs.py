"""The codecs and containers that outputs may have, and what goes with what. Imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from jax_interp.errors import UsageError


@dataclass(frozen=True)
class VideoCodec:
    """A video codec: its encoder, and the pixel formats, qualities and suffixes that go with it."""

    encoder: str
    """FFmpeg's name of the encoder."""
    pixel_formats: tuple[str, ...]
    """The pixel formats that it takes; the first is the default."""
    crf: int | None
    """The default quality (constant rate factor); None where the codec has no such setting."""
    suffixes: tuple[str, ...]
    """The suffixes of its containers; the first is the default."""
    worst_crf: int = 51
    without_crf: str = "is lossless"
    """Why it takes no CRF, where it takes none."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of the encoder that always hold."""
    apple_tag: str | None = None
    """The tag in mp4 and mov without which Apple's players do not show the codec."""


_SUBSAMPLINGS = ("yuv420p", "yuv422p", "yuv444p")
_TEN_BITS = ("yuv420p10le", "yuv422p10le", "yuv444p10le")

CODECS = {
    "h264": VideoCodec("libx264", _SUBSAMPLINGS, 14, (".mp4", ".mkv", ".mov")),
    # Frame threads change the result, and otherwise follow from the number of cores.
    "hevc": VideoCodec(
        "libx265",
        (*_SUBSAMPLINGS, *_TEN_BITS),
        18,
        (".mp4", ".mkv", ".mov"),
        options={"x265-params": "log-level=error:frame-threads=3"},
        apple_tag="hvc1",
    ),
    "av1": VideoCodec(
        "libsvtav1",
        ("yuv420p", "yuv420p10le"),
        20,
        (".mp4", ".mkv"),
        worst_crf=63,
        options={"preset": "6", "svtav1-params": "lp=4"},
    ),
    "ffv1": VideoCodec("ffv1", ("bgr0",), None, (".mkv",)),
    "prores": VideoCodec(
        "prores_ks",
        ("yuv422p10le", "yuv444p10le"),
        None,
        (".mov", ".mkv"),
        without_crf="has a fixed quality (profile HQ, or 4444 with yuv444p10le)",
        options={"vendor": "apl0"},
    ),
    "libx264rgb": VideoCodec("libx264rgb", ("rgb24",), 0, (".mp4", ".mkv", ".mov")),
    "gif": VideoCodec("gif", ("pal8",), None, (".gif",), without_crf="has 256 colours a frame"),
    "webp": VideoCodec(
        "libwebp_anim",
        ("bgra",),
        None,
        (".webp",),
        without_crf="has a fixed quality",
        options={"quality": "90", "compression_level": "4"},
    ),
}
"""The codecs that `VideoWriter` takes. ffv1, and libx264rgb at its default CRF 0, keep every frame bit for bit."""

MUXERS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov", ".gif": "gif", ".webp": "webp"}
"""FFmpeg's name of the container with each suffix that an output may have."""

ANIMATIONS = {".gif": Fraction(1, 100), ".webp": Fraction(1, 1000)}
"""The containers for short clips, each with the tick, in seconds, to which it rounds times."""

MOST_ANIMATION_PIXELS = 1 << 28
"""Pixels of all frames of an animation: 297 frames of 1280x704. Browsers keep all of it in memory."""

FASTEST_GIF = 50
"""Frames per second. Browsers show a frame for a tenth of a second if it is to be shown for less than a fiftieth."""


@dataclass(frozen=True, kw_only=True)
class EncodingSettings:
    """How a video is encoded; None stands for what is usual for the container or the codec."""

    codec: str | None = None
    """A key of `CODECS`; None stands for h264, or for the only one of the container."""
    crf: int | None = None
    """The constant rate factor, from 0 (best; for h264 lossless) to 51, for av1 to 63."""
    pixel_format: str | None = None
    """A pixel format of the codec, by FFmpeg's name."""

    def codec_for(self, path: Path) -> str:
        return self.codec or (path.suffix.lower()[1:] if path.suffix.lower() in ANIMATIONS else "h264")

    def complete(self, path: Path) -> "EncodingSettings":
        """Return the settings for the file `path` with nothing left open but a CRF where there is none."""
        name = self.codec_for(path)
        codec = CODECS[name]
        crf = codec.crf if self.crf is None else self.crf
        return EncodingSettings(codec=name, crf=crf, pixel_format=self.pixel_format or codec.pixel_formats[0])

    def facts(self, path: Path) -> dict[str, Any]:
        """Return the complete settings for the file `path`, of JSON values."""
        return asdict(self.complete(path))

    def faults(self, path: Path) -> list[str]:
        """Return what does not go together with each other or with the file `path`, whatever its size is."""
        name = self.codec_for(path)
        return _container_faults(path, name) + _codec_faults(name, self.crf, self.pixel_format)


def default_suffix(codec: str | None) -> str:
    """Return the suffix of a file of `codec` whose name does not say it."""
    return CODECS[codec or "h264"].suffixes[0]


def size_faults(path: Path, encoding: EncodingSettings, height: int, width: int) -> list[str]:
    """Return why frames of `height` x `width` pixels cannot be encoded; the settings are without `faults`."""
    if height < 1 or width < 1:
        return [f"the size must be positive, not {width}x{height}"]
    chosen = str(encoding.complete(path).pixel_format)
    if ("420" in chosen and (height % 2 or width % 2)) or ("422" in chosen and width % 2):
        return [
            f"{width}x{height} is odd, and {chosen} halves the colour's size; use an even size, pixel format yuv444p or"
            " codec ffv1"
        ]
    return []


def rate_faults(path: Path, fps: Fraction | float) -> list[str]:
    """Return why a file of this kind cannot show `fps` frames a second."""
    if path.suffix.lower() == ".gif" and fps > FASTEST_GIF:
        return [f"a gif shows {FASTEST_GIF} frames a second at most, not {float(fps):g}; write .webp or .mp4"]
    return []


def check_length(path: Path, num_frames: int, height: int, width: int) -> None:
    """Raise `UsageError` if `path` is an animation, and `num_frames` frames are too many for one."""
    most = MOST_ANIMATION_PIXELS // max(1, height * width)
    if path.suffix.lower() in ANIMATIONS and num_frames > most:
        raise UsageError(
            f"{path}: {num_frames} frames of {width}x{height} are too many for a {path.suffix[1:]}, which may have"
            f" {most} of that size; write .mp4, or make fewer or smaller frames"
        )


def _container_faults(path: Path, codec: str) -> list[str]:
    faults, suffix = [], path.suffix.lower()
    if suffix not in MUXERS:
        faults.append(f"the suffix must be one of {', '.join(MUXERS)}, not {path.suffix or 'none'}")
    elif codec in CODECS and suffix not in CODECS[codec].suffixes:
        faults.append(f"codec {codec} needs {' or '.join(CODECS[codec].suffixes)}, not {path.suffix}")
    return faults


def _codec_faults(codec: str, crf: int | None, pixel_format: str | None) -> list[str]:
    if codec not in CODECS:
        return [f"codec {codec} is unknown; choose one of {', '.join(CODECS)}"]
    known, faults = CODECS[codec], []
    if crf is not None and known.crf is None:
        faults.append(f"codec {codec} {known.without_crf} and takes no --crf")
    elif crf is not None and not 0 <= crf <= known.worst_crf:
        best = "lossless" if known.encoder.startswith("libx264") else "best"
        faults.append(f"--crf must be 0 ({best}) to {known.worst_crf}, not {crf}")
    if pixel_format is not None and pixel_format not in known.pixel_formats:
        faults.append(f"codec {codec} takes --pixel-format {' or '.join(known.pixel_formats)}, not {pixel_format}")
    return faults
