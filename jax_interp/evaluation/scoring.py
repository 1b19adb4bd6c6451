"""A clip scored pair by pair: every ninth frame is a keyframe, and the frames between them are the truth."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jax_interp.errors import MediaError, UsageError
from jax_interp.evaluation.baselines import blend, nearest
from jax_interp.evaluation.lpips import Lpips
from jax_interp.evaluation.metrics import Score, decibels, moving_mask, psnr, squared_error, ssim
from jax_interp.evaluation.seam import Seam, seam
from jax_interp.media.resize import resize_levels
from jax_interp.media.source import FrameSource, Picture, RgbFrames

NEAREST, BLEND, TRUTH = "nearest", "blend", "truth"


@dataclass(frozen=True)
class PairScores:
    """What one method made of one pair."""

    psnr: Score
    ssim: Score
    lpips: float | None
    seam: Seam
    keyframes: float | None
    """PSNR in dB of the keyframes as the method returns them; None if they are exact."""
    frames: tuple[float | None, ...]
    """PSNR in dB of every frame between them."""


@dataclass
class ClipScores:
    """What every method made of a clip."""

    height: int
    width: int
    stride: int
    """Frames from one keyframe to the next."""
    across_cuts: tuple[int, ...] = ()
    """The pairs that lie across a scene cut, which no method has scores of."""
    moving_share: list[float] = field(default_factory=list)
    """Of each pair that is scored, how much of the picture moves, from 0 to 1."""
    truth: list[Seam] = field(default_factory=list)
    """Of each pair that is scored, the true steps from frame to frame."""
    methods: dict[str, list[PairScores]] = field(default_factory=dict)
    """Of each method, the scores of these pairs."""

    def summary(self) -> dict[str, Any]:
        """Return the means over pairs, as JSON values; a value that no pair has is None."""
        means = {name: _method_means(pairs) for name, pairs in self.methods.items()}
        return {
            "height": self.height,
            "width": self.width,
            "keyframe_stride": self.stride,
            "pairs": self.num_pairs,
            "pairs_across_cuts": list(self.across_cuts),
            "moving_share": mean(self.moving_share),
            "methods": means | {TRUTH: {"seam": _seam_means(self.truth)}},
            "frame_psnr": {name: self._frames_by_pair(pairs) for name, pairs in self.methods.items()},
        }

    @property
    def num_pairs(self) -> int:
        """The number of pairs, with those that lie across a cut."""
        return len(self.truth) + len(self.across_cuts)

    def _frames_by_pair(self, scored: list[PairScores]) -> list[tuple[float | None, ...]]:
        rows, nothing = iter(scored), (None,) * (self.stride - 1)
        return [nothing if pair in self.across_cuts else next(rows).frames for pair in range(self.num_pairs)]


def count_pairs(source: FrameSource, stride: int, requested: int | None = None) -> int:
    """Return how many pairs a clip has whose keyframes are `stride` frames apart; or `requested`, if there are so many.

    Raises:
        UsageError: there are not, or not even one.
    """
    pairs = (source.num_frames - 1) // stride
    path = source.description.get("path", "the clip")
    if pairs < 1:
        raise UsageError(
            f"{path}: has {source.num_frames} frames; to be evaluated it needs {stride + 1}, two keyframes and the"
            f" {stride - 1} between them"
        )
    if requested is not None and requested > pairs:
        raise UsageError(f"{path}: --num-frame-pairs {requested}: has {pairs} pairs; ask for {pairs} or fewer")
    return requested or pairs


def check_made(source: FrameSource, name: str, stride: int, pairs: int) -> None:
    """Raise `UsageError` if a clip that another tool made has fewer frames than `pairs` pairs need."""
    needed = pairs * stride + 1
    if source.num_frames < needed:
        raise UsageError(
            f"--against {name}: has {source.num_frames} frames; expected {needed}, with the keyframes at 0, {stride},"
            f" {2 * stride}, … (--save-keyframes writes them for the other tool, which has to make {stride - 1} frames"
            " between any two)"
        )


def score_clip(
    truth: FrameSource,
    made: Mapping[str, FrameSource],
    *,
    pairs: int,
    stride: int,
    height: int,
    width: int,
    across_cuts: tuple[int, ...] = (),
    lpips: Lpips | None = None,
    advance: Callable[[int], Any] = lambda pair: None,
) -> ClipScores:
    """Score what is `made` of a clip's keyframes, by the names of the methods, beside nearest and blend.

    Frames of another size are resized to `height` x `width`, as the networks' input is. One pair is held at a time.
    Pairs `across_cuts` have no truth, since nothing leads from one scene to another, and are passed over. `advance` is
    called with how many pairs are done.

    Raises:
        MediaError: a clip is damaged, or ends before its last pair.
    """
    clips = {TRUTH: truth, **made}
    windows = {name: iterate_windows(clip, pairs, stride, height, width) for name, clip in clips.items()}
    scores = ClipScores(height, width, stride, across_cuts, methods={name: [] for name in (*made, NEAREST, BLEND)})
    for index, frames in enumerate(zip(*windows.values(), strict=True)):
        advance(index)
        if index in across_cuts:
            continue
        of = dict(zip(windows, frames, strict=True))
        true = of.pop(TRUTH)
        first, between, last = true[0], true[1:-1], true[-1]
        moving = moving_mask(first, last)
        scores.moving_share.append(float(moving.mean()))
        scores.truth.append(seam(first, between, last))
        simple = {NEAREST: nearest(first, last, stride - 1), BLEND: blend(first, last, stride - 1)}
        ways = {name: (window[[0, -1]], window[1:-1]) for name, window in of.items()}
        ways |= {name: (true[[0, -1]], frames) for name, frames in simple.items()}
        for name, (ends, frames_between) in ways.items():
            scores.methods[name].append(_score(ends, frames_between, true, moving, lpips))
    advance(pairs)
    return scores


def pairs_across(cuts: Iterable[int], stride: int, pairs: int) -> tuple[int, ...]:
    """Return which of `pairs` pairs lie across one of `cuts`, the numbers of frames that begin a scene."""
    return tuple(sorted({(cut - 1) // stride for cut in cuts if 0 < cut <= pairs * stride}))


def iterate_windows(source: FrameSource, count: int, stride: int, height: int, width: int) -> Iterator[RgbFrames]:
    """Yield the `stride` + 1 frames of each of `count` pairs, resized; neighbouring pairs share a frame."""
    frames = iter(_resized(source, height, width))
    window = list(islice(frames, 1))
    for pair in range(count):
        window += islice(frames, stride)
        if len(window) <= stride:
            path = source.description.get("path", "a clip")
            raise MediaError(f"{path}: ended before frame {(pair + 1) * stride}, the last of pair {pair}")
        yield np.stack(window)
        window = window[-1:]


def resized_source(source: FrameSource, height: int, width: int, num_frames: int) -> FrameSource:
    """Return the first frames of a clip in another size, resized as they are for the scores."""
    frames = partial(_resized, source, height, width)
    return replace(source, num_frames=num_frames, height=height, width=width, read=lambda: islice(frames(), num_frames))


def blended_source(source: FrameSource, pairs: int, stride: int, height: int, width: int) -> FrameSource:
    """Return the clip that blending makes of the keyframes of `source`, with levels rounded."""

    def read() -> Iterator[Picture]:
        for pair, window in enumerate(iterate_windows(source, pairs, stride, height, width)):
            if not pair:
                yield window[0]
            yield from np.round(blend(window[0], window[-1], stride - 1)).astype(np.uint8)
            yield window[-1]

    return replace(source, num_frames=pairs * stride + 1, height=height, width=width, read=read)


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are there; None if none is."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def _resized(source: FrameSource, height: int, width: int) -> Iterator[Picture]:
    for frame in source:
        yield resize_levels(frame, height, width)


def _score(
    ends: NDArray[Any], made: NDArray[Any], true: RgbFrames, moving: NDArray[np.bool_], lpips: Lpips | None
) -> PairScores:
    truth = true[1:-1]
    return PairScores(
        psnr=psnr(made, truth, moving),
        ssim=ssim(made, truth, moving),
        lpips=None if lpips is None else lpips(made, truth),
        seam=seam(true[0], made, true[-1]),
        keyframes=decibels(squared_error(ends, true[[0, -1]])),
        frames=tuple(decibels(squared_error(a, b)) for a, b in zip(made, truth, strict=True)),
    )


def _method_means(pairs: list[PairScores]) -> dict[str, Any]:
    return {
        "psnr": _score_means([pair.psnr for pair in pairs]),
        "ssim": _score_means([pair.ssim for pair in pairs]),
        "lpips": mean(pair.lpips for pair in pairs),
        "seam": _seam_means([pair.seam for pair in pairs]),
        "keyframes_psnr": mean(pair.keyframes for pair in pairs),
    }


def _score_means(scores: list[Score]) -> dict[str, float | None]:
    return {part: mean(getattr(score, part) for score in scores) for part in Score._fields}


def _seam_means(seams: list[Seam]) -> dict[str, float | None]:
    return {part: mean(getattr(each, part) for each in seams) for part in Seam._fields}
