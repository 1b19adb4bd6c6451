"""The film that the demo's networks learn from: its frames, its shots, and which shots they never see."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

WINDOW = 10
"""Frames of one sample: both ends of a pair and the eight between."""
OPENING, CLOSING = 300, 1100
"""Frames of titles at both ends of the film, which are left out."""
HOLD_OUT_EVERY = 6
"""One shot of this many is held out as a whole."""
CUT = 20.0
"""The mean difference of neighbouring frames (of 255) above which the step between them may be a cut."""
CUT_RATIO = 1.5
"""A cut also differs this many times as much as the median of the two steps before and the two behind it."""


@dataclass(frozen=True)
class Split:
    """The windows of the film, each within one shot, by their first frames; and how much moves in each."""

    train: Int[np.ndarray, " n"]
    held_out: Int[np.ndarray, " m"]
    held_out_shots: tuple[tuple[int, int], ...]
    """The first frame and the end (exclusive) of every shot that is held out."""
    motion: Float[np.ndarray, " frames"]
    """The mean difference of neighbouring frames (of 255) over the window that begins at each frame."""


def read_film(path: Path) -> UInt8[np.ndarray, "F Y X 3"]:
    """Return all frames, RGB; an `.npy` file holds frames that were decoded before."""
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def split(frames: UInt8[np.ndarray, "F Y X 3"]) -> Split:
    """Split the film into windows that are trained on and windows of shots that are held out whole.

    Shots are found by their cuts; every sixth is held out.
    """
    steps = differences(frames)
    shots = find_shots(steps)
    held_out = shots[HOLD_OUT_EVERY // 2 :: HOLD_OUT_EVERY]
    trained = [shot for shot in shots if shot not in held_out]
    total = np.concatenate([[0.0], np.cumsum(steps)])
    motion = np.zeros(len(frames))
    motion[: 1 - WINDOW] = (total[WINDOW - 1 :] - total[: 1 - WINDOW]) / (WINDOW - 1)
    return Split(_starts(trained), _starts(held_out), tuple(held_out), motion)


def differences(frames: UInt8[np.ndarray, "F Y X 3"]) -> Float[np.ndarray, " steps"]:
    """Return the mean absolute difference of every frame to the next one, in levels from 0 to 255."""
    return np.array([np.abs(a.astype(np.int16) - b).mean() for a, b in pairwise(frames)])


def find_shots(steps: Float[np.ndarray, " steps"]) -> list[tuple[int, int]]:
    """Return (first frame, end) of every shot between the titles that is long enough for a window.

    `steps` are the `differences` of the whole film.
    """
    padded = np.pad(steps, 2, mode="edge")
    around = np.median([padded[i : i + len(steps)] for i in (0, 1, 3, 4)], axis=0)
    cuts = np.flatnonzero((steps > CUT) & (steps > CUT_RATIO * around)) + 1
    edges = [OPENING, *(cut for cut in cuts.tolist() if OPENING < cut < len(steps) + 1 - CLOSING)]
    edges.append(len(steps) + 1 - CLOSING)
    return [(a, b) for a, b in pairwise(edges) if b - a >= WINDOW]


def _starts(shots: list[tuple[int, int]]) -> Int[np.ndarray, " n"]:
    return np.concatenate([np.arange(first, end - WINDOW + 1) for first, end in shots])
