"""A clip's plan together with the settings for its pairs: what jobs and `Interpolator.interpolate_clip` share."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import dropwhile
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from jax_interp.media.fit import crop, fit
from jax_interp.media.shape import Aspect, Shape, Size, choose_shape
from jax_interp.media.source import FrameSource, Picture, RgbFrames
from jax_interp.media.timeline.pieces import Piece, Tally
from jax_interp.media.timeline.plan import ClipPlan, Used, plan_clip, settle_cuts
from jax_interp.media.timeline.settings import Timeline
from jax_interp.pipeline.passes import NumberedPair
from jax_interp.pipeline.results import InterpolatedPair
from jax_interp.pipeline.settings import InterpolationSettings

FrameT = TypeVar("FrameT")

Shown = tuple[tuple[int, int], ...]
"""(step, number of output frames that show it), as in `Piece.shown`."""


@dataclass(frozen=True)
class PlannedClip:
    """What becomes of a clip, and the settings for its pairs, which have the network's size and the keyframes."""

    plan: ClipPlan
    shape: Shape
    aspect: Aspect
    settings: InterpolationSettings


@dataclass(frozen=True)
class InterpolatedClip:
    """A clip that is interpolated while its frames are asked for; every `iter()` begins anew, and no frame is kept."""

    rate: Fraction
    """Frames a second, exact."""
    num_frames: int
    height: int
    width: int
    read: Callable[[], Iterator[UInt8[np.ndarray, "Y X 3"]]]

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "Y X 3"]]:
        return self.read()


def plan_for(
    source: FrameSource, settings: InterpolationSettings, timeline: Timeline, aspect: Aspect | None, fps: Fraction
) -> PlannedClip:
    """Return the plan of a clip. `fps` is the output's rate at upstream's pace, and that of pictures.

    Raises:
        UsageError: something does not suit the input.
    """
    timeline = settle_cuts(timeline, source)
    if settings.keyframes == "original" and timeline.keyframes is None:
        timeline = replace(timeline, keyframes="original")
    aspect = aspect or Aspect(keep=timeline.follows_source)
    shape = choose_shape(aspect, Size(source.height, source.shown_width), Size(settings.height, settings.width))
    used = Used(start=settings.frame_index_start, stride=settings.frame_stride, num_pairs=settings.num_frame_pairs)
    plan = plan_clip(source, timeline, used, steps=settings.num_video_frames - 1, fps=fps)
    keyframes = "original" if timeline.original_keyframes else "decoded"
    height, width = shape.network
    return PlannedClip(plan, shape, aspect, replace(settings, height=height, width=width, keyframes=keyframes))


def interpolated(
    planned: PlannedClip, stream: Callable[[Iterator[NumberedPair]], Iterator[InterpolatedPair]]
) -> InterpolatedClip:
    """Return the clip whose pairs `stream` interpolates in their order."""

    def read() -> Iterator[Picture]:
        shown = deque[Shown]()
        for pair in stream(as_pairs(planned.plan.pieces(Tally()), planned.shape, shown)):
            yield from (frame[0] for frame in output_frames(pair.frames, shown.popleft(), planned.shape))

    return InterpolatedClip(planned.plan.rate, planned.plan.num_frames, *planned.shape.inner, read)


def as_pairs(
    pieces: Iterator[Piece[Picture]], shape: Shape, shown: deque[Shown], done: int = 0
) -> Iterator[NumberedPair]:
    """Yield the pieces from number `done` on as the network takes them; `shown` gets what the output shows of each."""
    for piece in _left(pieces, shown, done):
        yield piece.index, fit(piece.first, shape), None if piece.last is None else fit(piece.last, shape)


def as_clips(
    pieces: Iterator[Piece[RgbFrames]], shape: Shape, shown: deque[Shown], done: int = 0
) -> Iterator[tuple[int, RgbFrames]]:
    """Do what `as_pairs` does, for the pieces of a `Continuation`, whose frames are always stretched."""
    del shape  # the network's stage resizes them
    for piece in _left(pieces, shown, done):
        yield piece.index, piece.first


def _left(pieces: Iterator[Piece[FrameT]], shown: deque[Shown], done: int) -> Iterator[Piece[FrameT]]:
    for piece in dropwhile(lambda piece: piece.index < done, pieces):
        shown.append(piece.shown)
        yield piece


def output_frames(frames: RgbFrames, shown: Shown, shape: Shape) -> Iterator[RgbFrames]:
    """Yield the output frames that a piece gives, each [1, Y, X, 3], without padding."""
    for step, count in shown:
        frame = crop(frames[step : step + 1], shape)
        for _ in range(count):
            yield frame
