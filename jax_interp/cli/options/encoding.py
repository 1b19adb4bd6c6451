"""The options for how a video is encoded."""

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from jax_interp.media.video.codecs import EncodingSettings


@dataclass(frozen=True)
class EncodingOptions:
    """The options for the codec of the result."""

    codec: Annotated[
        Literal["h264", "hevc", "av1", "ffv1", "prores"] | None,
        typer.Option(
            help="h264 without. ffv1 is lossless and comes as mkv, prores as mov, the others as mp4, unless"
            " --video-save-name ends in another suffix."
        ),
    ] = None
    crf: Annotated[
        int | None,
        typer.Option(
            help="Quality of h264 (14 without), hevc (18) and av1 (20): from 0, the best, to 51, for av1 to 63."
        ),
    ] = None
    pixel_format: Annotated[
        str | None,
        typer.Option(
            help="yuv420p, yuv422p or yuv444p; with 10 bits (as yuv420p10le) for hevc, av1 (4:2:0 only) and prores (not"
            " 4:2:0). The codec's first without."
        ),
    ] = None

    def settings(self) -> EncodingSettings:
        return EncodingSettings(codec=self.codec, crf=self.crf, pixel_format=self.pixel_format)
