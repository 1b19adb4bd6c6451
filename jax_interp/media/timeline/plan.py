"""A clip's plan: which of its frames are used, when, and which output frames they give. No frame is read to make it."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from jax_interp.errors import MediaError, UsageError
from jax_interp.media.frame_times import FrameTimes
from jax_interp.media.pairs import num_pairs
from jax_interp.media.source import FrameSource, Picture
from jax_interp.media.timeline.clock import Clock
from jax_interp.media.timeline.duplicates import is_duplicate
from jax_interp.media.timeline.nodes import find_nodes
from jax_interp.media.timeline.pieces import Piece, Tally, find_pieces
from jax_interp.media.timeline.scene_cuts import (
    INSTALL,
    AdaptiveCuts,
    check_cuts,
    every,
    is_installed,
    read_cuts,
    with_cuts,
)
from jax_interp.media.timeline.settings import SceneCuts, Timeline

logger = logging.getLogger("jax_interp")

FrameT = TypeVar("FrameT")


@dataclass(frozen=True, kw_only=True)
class Used:
    """The frames of an input that are used: `num_pairs + 1` of them, `stride` apart from frame `start` on."""

    start: int = 0
    stride: int = 1
    num_pairs: int | None = None
    """None uses all."""


@dataclass(frozen=True)
class ClipPlan:
    """What becomes of a clip."""

    source: FrameSource
    timeline: Timeline
    used: Used
    steps: int
    """The number of steps from one end of a pair to the other: one less than its frames."""
    num_nodes: int
    """The number of input frames that are used."""
    times: FrameTimes
    """When the used frames are shown; at upstream's pace as the output shows them."""
    span: tuple[Fraction, Fraction]
    """Where the used part begins and ends on the file's own clock, in seconds."""
    rate: Fraction
    """The output's frames a second, exact."""
    clock: Clock

    @property
    def num_frames(self) -> int:
        """The number of output frames."""
        return self.clock.num_frames

    @property
    def num_pairs(self) -> int:
        """The pairs that neighbouring frames make, of which not all may be needed."""
        return self.num_nodes - 1

    @property
    def slowed(self) -> Fraction:
        """How many times as long as the used part the output lasts."""
        begin, end = self.span
        return self.timeline.slowed if self.timeline.follows_source else self.num_frames / self.rate / (end - begin)

    @property
    def is_foreseen(self) -> bool:
        """Whether `foreseen` tells all: no frame has to be looked at to find cuts or duplicates."""
        return self.timeline.scene_cuts != "auto" and self.timeline.duplicates == "keep"

    def foreseen(self) -> Tally:
        """Return what follows from the time stamps and the cuts that are given: duplicates and other cuts are not."""
        given = set(self._given_cuts())
        frames = self._select((index, index in given) for index in self._indices())
        tally = Tally()
        for _ in self._pieces(frames, tally):
            pass
        return tally

    def pieces(self, tally: Tally) -> Iterator[Piece[Picture]]:
        """Yield the pieces of the clip in order, and count in `tally`. The input is read once; few frames are held."""
        return self._pieces(self._frames(tally), tally, is_duplicate if self.timeline.duplicates == "merge" else None)

    def _pieces(
        self, frames: Iterable[tuple[FrameT, bool]], tally: Tally, same: Callable[[FrameT, FrameT], bool] | None = None
    ) -> Iterator[Piece[FrameT]]:
        nodes = find_nodes(frames, self.times.ticks, self.clock, same)
        return find_pieces(nodes, self.clock, self.steps, originals=self.timeline.original_keyframes, tally=tally)

    def _frames(self, tally: Tally) -> Iterator[tuple[Picture, bool]]:
        """Yield the used frames, each with whether a cut lies before it."""
        numbered = with_cuts(self._read(), AdaptiveCuts()) if self.timeline.scene_cuts == "auto" else self._marked()
        begun = 0
        for index, (frame, cut) in enumerate(self._select(self._noted(numbered, tally))):
            begun = index + 1
            yield frame, cut
        if begun < self.num_nodes:
            raise MediaError(f"the input ended before frame {self.used.start + begun * self.used.stride}")

    def _read(self) -> Iterator[Picture]:
        """Yield the frames from the first one that is used to the last."""
        last = self.used.start + (self.num_nodes - 1) * self.used.stride
        return islice(iter(self.source), self.used.start, last + 1)

    def _marked(self) -> Iterator[tuple[Picture, bool]]:
        given = set(self._given_cuts())
        return ((frame, index in given) for index, frame in zip(self._indices(), self._read(), strict=False))

    def _noted(self, frames: Iterator[tuple[FrameT, bool]], tally: Tally) -> Iterator[tuple[FrameT, bool]]:
        for index, (frame, cut) in zip(self._indices(), frames, strict=False):
            if cut:
                tally.cuts.append(index)
            yield frame, cut

    def _select(self, frames: Iterator[tuple[FrameT, bool]]) -> Iterator[tuple[FrameT, bool]]:
        return every(frames, self.used.stride)

    @property
    def reaches_end(self) -> bool:
        """Whether the last frame of the input is used."""
        return self.num_left_out == 0

    @property
    def num_left_out(self) -> int:
        """The number of input frames after the last one that is used."""
        return self.source.num_frames - self._indices().stop

    def _indices(self) -> range:
        return range(self.used.start, self.used.start + (self.num_nodes - 1) * self.used.stride + 1)

    def _given_cuts(self) -> tuple[int, ...]:
        return self.timeline.scene_cuts if isinstance(self.timeline.scene_cuts, tuple) else ()


def plan_clip(source: FrameSource, timeline: Timeline, used: Used, *, steps: int, fps: Fraction) -> ClipPlan:
    """Return the plan of a clip.

    Args:
        source: the input.
        timeline: what is asked of the output's time; its cuts are settled (`settle_cuts`).
        used: the frames that are used.
        steps: one less than the frames of a pair.
        fps: the output's rate at upstream's pace, and that at which pictures, which have no time, were taken.

    Raises:
        UsageError: a value does not suit the input.
    """
    pairs = num_pairs(source.num_frames, used.stride, used.start, used.num_pairs)
    if isinstance(timeline.scene_cuts, tuple):
        check_cuts(timeline.scene_cuts, source.num_frames)
    all_times = source.times or FrameTimes.regular(source.num_frames, fps)
    own = all_times.selected(used.start, used.stride, pairs + 1)
    span = own.origin, own.origin + int(own.ticks[-1]) * own.tick
    if timeline.follows_source:
        rate, times = timeline.output_rate(source.fps or fps), own
    else:
        rate, times = fps, _upstreams_pace(pairs, steps, fps)
    clock = Clock.over(times.ticks, times.tick, 1 / (rate * timeline.slowed))
    return ClipPlan(source, timeline, used, steps, pairs + 1, times, span, rate, clock)


def _upstreams_pace(pairs: int, steps: int, fps: Fraction) -> FrameTimes:
    """Return the times of frames that come every `steps` output frames; the last one lasts one."""
    begins = np.arange(pairs + 1, dtype=np.int64) * steps
    return FrameTimes(np.append(begins, begins[-1] + 1), 1 / fps)


def settle_cuts(timeline: Timeline, source: FrameSource) -> Timeline:
    """Return `timeline` with its cuts settled (`settled_cuts`); by default they are looked for where it follows time.

    Raises:
        UsageError: a file is wrong, or cuts shall be looked for and PySceneDetect is not there.
    """
    return replace(timeline, scene_cuts=settled_cuts(timeline.scene_cuts, source, by_default=timeline.follows_source))


def settled_cuts(asked: SceneCuts | None, source: FrameSource, *, by_default: bool) -> SceneCuts:
    """Return how cuts are found, as "auto", "off" or numbers of frames: files are read, and the default chosen.

    `by_default` says whether they are looked for where nothing is asked. Pictures that are given one by one are then
    joined whatever they show.

    Raises:
        UsageError: a file is wrong, or cuts shall be looked for and PySceneDetect is not there.
    """
    if isinstance(asked, Path):
        return read_cuts(asked)
    if asked == "auto" and not is_installed():
        raise UsageError(f"--scene-cuts auto: needs PySceneDetect ({INSTALL}); or give --scene-cuts off, or a file")
    if asked is None:
        wanted = by_default and source.description.get("kind") != "pictures"
        if wanted and not is_installed():
            logger.warning(
                "scene cuts are not looked for, as PySceneDetect is not installed (%s): pairs may lie across them;"
                " --scene-cuts off says that there are none",
                INSTALL,
            )
        asked = "auto" if wanted and is_installed() else "off"
    return asked
