"""What has to be computed, in order: pairs whose inside an output frame needs, and single frames between them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, groupby, pairwise
from typing import Generic, TypeVar

from jax_interp.media.timeline.clock import Clock
from jax_interp.media.timeline.nodes import Node

FrameT = TypeVar("FrameT")


@dataclass(frozen=True)
class Piece(Generic[FrameT]):
    """A pair to interpolate, or a single frame, and which of its frames the output shows."""

    index: int
    """The number of the piece, from 0."""
    first: FrameT
    last: FrameT | None
    """None for a single frame, which is shown as it is."""
    shown: tuple[tuple[int, int], ...]
    """(step, number of output frames that show it), in the output's order. Step 0 is the first frame."""


@dataclass
class Tally:
    """What was met on the way through a clip; complete when all pieces have been taken."""

    num_frames: int = 0
    """The number of output frames."""
    num_pieces: int = 0
    num_pairs: int = 0
    """The number of pairs that are interpolated."""
    merged: int = 0
    """The number of input frames that count as the one before them."""
    largest_error: Fraction = Fraction(0)
    """The largest distance in time between an output frame and the step that is shown, in output frames."""
    cuts: list[int] = field(default_factory=list)
    """The numbers of the frames that begin a scene, counted from 0 in the input."""


@dataclass(frozen=True)
class _Link(Generic[FrameT]):
    """What lies between two nodes: the steps inside the pair that output frames show, and how many show its ends."""

    inside: tuple[tuple[int, int], ...] = ()
    at_first: int = 0
    at_last: int = 0
    is_pair: bool = False


def find_pieces(
    nodes: Iterable[Node[FrameT]], clock: Clock, steps: int, *, originals: bool, tally: Tally
) -> Iterator[Piece[FrameT]]:
    """Yield the pieces of a clip, and count in `tally`; holds the frames of two pieces.

    A pair is interpolated only if an output frame shows a step inside it. An output frame that falls on a frame of the
    input is taken from a pair that is there anyway: the one before, as upstream does, else the one behind. Where there
    is none it is a single frame if `originals`, and otherwise a pair is interpolated for its sake.
    """
    opened: _Opened[FrameT] | None = None
    before: Node[FrameT] | None = None
    arriving, index = 0, 0
    for node, following in pairwise(chain(nodes, [None])):
        assert node is not None
        link = _link(node, following, clock, steps, tally)
        showing = arriving + len(clock.between(node.begin, node.until)) + link.at_first
        tally.merged += node.merged
        if opened is not None:  # the pair that ends here
            opened.show(steps, showing)
            yield opened.piece(index, tally)
            opened, index, showing = None, index + 1, 0
        if showing and not link.inside and not (link.is_pair and not originals):
            single = _Opened(before.frame, node.frame) if not originals and before else _Opened(node.frame, None)
            single.show(steps if single.last is not None else 0, showing)
            yield single.piece(index, tally)
            index, showing = index + 1, 0
        if following is not None and (link.inside or showing):
            opened = _Opened(node.frame, following.frame)
            opened.show(0, showing)
            opened.shown += link.inside
        arriving = link.at_last
        before = node if node.joined and following is not None else None


class _Opened(Generic[FrameT]):
    """A piece whose last output frames are not known yet."""

    def __init__(self, first: FrameT, last: FrameT | None):
        self.first, self.last = first, last
        self.shown: list[tuple[int, int]] = []

    def show(self, step: int, count: int) -> None:
        if count:
            self.shown.append((step, count))

    def piece(self, index: int, tally: Tally) -> Piece[FrameT]:
        tally.num_pieces += 1
        tally.num_pairs += self.last is not None
        tally.num_frames += sum(count for _, count in self.shown)
        return Piece(index, self.first, self.last, tuple(self.shown))


def _link(node: Node[FrameT], following: Node[FrameT] | None, clock: Clock, steps: int, tally: Tally) -> _Link[FrameT]:
    if following is None or not node.joined:
        return _Link()
    found = list(clock.steps(node.until, following.begin, steps))
    tally.largest_error = max([tally.largest_error, *(error for _, error in found)])
    counts = Counter(step for step, _ in found)
    inside = tuple((step, len(list(same))) for step, same in groupby(step for step, _ in found) if 0 < step < steps)
    return _Link(inside, counts[0], counts[steps], is_pair=True)
