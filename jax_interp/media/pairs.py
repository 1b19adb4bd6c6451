"""The frames that make a pair, and the joining of the pairs' outputs to one clip."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from jax_interp.errors import MediaError, UsageError
from jax_interp.media.source import RgbFrames

FrameT = TypeVar("FrameT")
ItemT = TypeVar("ItemT")


def num_pairs(num_frames: int, stride: int, start: int, requested: int | None = None) -> int:
    """Return how many pairs to interpolate: floor((num_frames - 1 - start) / stride), or `requested` if it is given.

    Pair k joins the frames `start + k * stride` and `start + (k + 1) * stride`, counted from 0.

    Raises:
        UsageError: a value that is not positive (`start`: negative), or one that reaches past the last frame; names
            the flag and the largest value that works.
    """
    faults = []
    if stride < 1:
        faults.append(f"--frame-stride {stride}: must be at least 1")
    if start < 0:
        faults.append(f"--frame-index-start {start}: must be 0 or more")
    if requested is not None and requested < 1:
        faults.append(f"--num-frame-pairs {requested}: must be at least 1")
    if faults:
        raise UsageError("; ".join(faults))
    if num_frames < 2:
        raise UsageError(f"the input has {num_frames} frame(s); a pair needs two, its first and its last")
    last = num_frames - 1
    if start >= last:
        raise UsageError(
            f"--frame-index-start {start}: the input has {num_frames} frames (0 to {last}), so the first pair must"
            f" start at frame {max(last - 1, 0)} or before"
        )
    available = (last - start) // stride
    if available == 0:
        raise UsageError(
            f"--frame-stride {stride}: a pair from frame {start} would end at frame {start + stride}, but the input has"
            f" {num_frames} frames (0 to {last}); use {last - start} or less"
        )
    if requested is not None and requested > available:
        raise UsageError(
            f"--num-frame-pairs {requested}: the input has {available} pairs ({num_frames} frames, --frame-stride"
            f" {stride}, --frame-index-start {start}); ask for {available} or fewer"
        )
    return available if requested is None else requested


def iterate_pairs(
    frames: Iterable[FrameT], stride: int, start: int, count: int
) -> Iterator[tuple[int, FrameT, FrameT]]:
    """Yield (k, first, last) for `count` pairs, as counted by `num_pairs`.

    Reads `frames` once, no further than the last pair needs, and holds two of them at most.

    Raises:
        MediaError: `frames` ends too soon; names the frame that is missing.
    """
    ends = islice(frames, start, start + count * stride + 1, stride)
    first = next(ends, None)
    for k in range(count):
        last = None if first is None else next(ends, None)
        if first is None or last is None:
            missing = start if first is None else start + (k + 1) * stride
            raise MediaError(
                f"the input ended before frame {missing}, the {'last' if first is not None else 'first'} of pair {k}"
            )
        yield k, first, last
        first = last


def batches(pairs: Iterable[ItemT], size: int) -> Iterator[list[ItemT]]:
    """Yield lists of `size` pairs, the last one of what is left; a list is read when it is asked for."""
    iterator = iter(pairs)
    while batch := list(islice(iterator, size)):
        yield batch


def join_pairs(outputs: Iterable[RgbFrames]) -> Iterator[RgbFrames]:
    """Yield each pair's frames [F, ...], from the second pair on without the first frame, which repeats the last one.

    P pairs of 10 frames give 9 P + 1 frames. Each pair is passed on as soon as it comes.
    """
    for k, frames in enumerate(outputs):
        yield frames[1:] if k else frames
