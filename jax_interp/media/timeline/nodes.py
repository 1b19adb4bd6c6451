"""The frames between which pairs lie: those of the input, without duplicates, and held before cuts and in stills."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from jax_interp.media.timeline.clock import Clock, Times

FrameT = TypeVar("FrameT")

MOST_MERGED = 4
"""The longest run of duplicates that counts as one frame: animation on fours. Longer runs are stills, which are held:
spreading the motion that follows over seconds of stillness would be wrong."""


@dataclass(frozen=True)
class Node(Generic[FrameT]):
    """A frame that is an end of pairs, shown from `begin` until `until`; then the pair to the next node begins.

    `until` is `begin` where the frame is not held.
    """

    frame: FrameT
    begin: int
    until: int
    merged: int
    """The number of duplicates that count as this frame."""
    joined: bool
    """Whether a pair leads from here to the next node: there is one, and no cut before it."""


def find_nodes(
    frames: Iterable[tuple[FrameT, bool]],
    times: Times,
    clock: Clock,
    is_duplicate: Callable[[FrameT, FrameT], bool] | None = None,
) -> Iterator[Node[FrameT]]:
    """Yield the nodes of `frames`, each of which comes with whether a cut lies before it; holds one frame.

    `times` are those of the frames and the end of the last one. `is_duplicate(first, frame)` compares a frame with the
    first one of its run; None merges nothing.
    """
    run, begun_at, index = None, 0, -1
    for index, (frame, cut) in enumerate(frames):
        if run is None:
            run, begun_at = [frame], index
        elif cut or is_duplicate is None or not is_duplicate(run[0], frame):
            yield _node(run[0], begun_at, index, times, clock, cut)
            run, begun_at = [frame], index
    if run is not None:
        begin = int(times[begun_at]) * clock.unit_ticks
        yield Node(run[0], begin, clock.end, index - begun_at, joined=False)


def _node(frame: FrameT, first: int, following: int, times: Times, clock: Clock, cut: bool) -> Node[FrameT]:
    held_to = following if cut else following - 1 if following - first > MOST_MERGED else first
    begin, until = (int(times[index]) * clock.unit_ticks for index in (first, held_to))
    return Node(frame, begin, until, following - 1 - first, joined=not cut)
