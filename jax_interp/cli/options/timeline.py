"""The options for the output's time: rate, slow motion, keyframes, scene cuts, duplicates, sound and shape."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from jax_interp.errors import UsageError
from jax_interp.media.read_settings import Hdr, Interlaced, ReadSettings
from jax_interp.media.shape import Aspect
from jax_interp.media.timeline.settings import Duplicates, Keyframes, SceneCuts, Timeline
from jax_interp.media.video.streams.sound_settings import Audio


def parse_cuts(text: str | None) -> SceneCuts | None:
    """Return the value of --scene-cuts: auto, off, or the path of a file."""
    match text:
        case None | "auto" | "off":
            return text
    return Path(text)


@dataclass(frozen=True)
class TimelineOptions:
    """The options with which an output follows the input's time; without them it has upstream's pace."""

    rate: Annotated[
        str | None,
        typer.Option(
            help="Frames a second of the output, which then lasts as long as the input: 60, 60000/1001, 2x or source."
            " Without --rate, --factor and --slow-motion every pair becomes ten frames."
        ),
    ] = None
    factor: Annotated[int | None, typer.Option(help="Output frames for each input frame: 3 is --rate 3x.")] = None
    slow_motion: Annotated[
        str, typer.Option(help="How many times as long the output lasts, at the input's rate or --rate: 4 or 2.5.")
    ] = "1"
    keyframes: Annotated[
        Keyframes | None,
        typer.Option(
            help="original keeps the input's own frames where the output falls on them, decoded has the network decode"
            " them, as upstream does.",
            show_default="original with a rate, factor or slow motion, else decoded",
        ),
    ] = None
    scene_cuts: Annotated[
        str | None,
        typer.Option(
            metavar="auto|off|FILE",
            help="No pair crosses a cut: auto finds them (PySceneDetect), FILE lists the frames that begin a scene, one"
            " a line, or is a run record.",
            show_default="auto with a rate, factor or slow motion, else off",
        ),
    ] = None
    duplicates: Annotated[
        Duplicates, typer.Option(help="merge counts up to 4 frames that are the same as one: animation on twos.")
    ] = "keep"
    audio: Annotated[
        Audio | None,
        typer.Option(
            help="auto copies the sound where the duration stays, and drops it in slow motion; stretch fits it to the"
            " output's duration; encode makes AAC of what mp4 does not take.",
            show_default="auto with a rate, factor or slow motion, else off",
        ),
    ] = None
    aspect: Annotated[
        str | None,
        typer.Option(
            metavar="auto|stretch|WxH",
            help="auto keeps the picture's shape in the nearest of upstream's sizes, or in --width and --height; WxH is"
            " the network's size.",
            show_default="auto with a rate, factor or slow motion, else stretch",
        ),
    ] = None
    hdr: Annotated[Hdr, typer.Option(help="Tone-map PQ and HLG to BT.709, or refuse them.")] = "tonemap"
    interlaced: Annotated[
        Interlaced, typer.Option(help="Deinterlace interlaced video (bwdif), or keep it, with a warning.")
    ] = "deinterlace"

    def timeline(self) -> Timeline:
        """Return what is asked of the output's time.

        Raises:
            UsageError: values that can never work, or that contradict each other.
        """
        if self.factor is not None and self.rate is not None:
            raise UsageError(
                f"--rate {self.rate} and --factor {self.factor}: give one of them; --factor 3 is --rate 3x"
            )
        if self.factor is not None and self.factor < 1:
            raise UsageError(f"--factor {self.factor}: expected the output frames for each input frame, from 1 on")
        rate = self.rate if self.factor is None else f"{self.factor}x"
        return Timeline(
            rate=rate,
            slow_motion=self.slow_motion,
            keyframes=self.keyframes,
            scene_cuts=parse_cuts(self.scene_cuts),
            duplicates=self.duplicates,
        )

    def shape(self) -> Aspect | None:
        """Return how pictures are made to suit the network; None leaves it to the timeline."""
        return None if self.aspect is None else Aspect.parse(self.aspect)

    def reading(self) -> ReadSettings:
        return ReadSettings(hdr=self.hdr, interlaced=self.interlaced)
