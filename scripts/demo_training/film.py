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
"""Of every six shots one is held out whole."""
CUT = 20.0
"""A step between neighbouring frames is a cut if their mean difference is above this (of 255) …"""
CUT_RATIO = 1.5
"""… and above this many times the median difference of the two steps before and behind it."""


@dataclass(frozen=True)
class Split:
    """First frames of windows that lie within one shot, and how much moves in each."""

    train: Int[np.ndarray, " n"]
    held_out: Int[np.ndarray, " m"]
    held_out_shots: tuple[tuple[int, int], ...]
    """First frame and end of every shot that is held out."""
    motion: Float[np.ndarray, " frames"]
    """Mean difference of neighbouring frames (of 255) over the window that begins at each frame."""


def read_film(path: Path) -> UInt8[np.ndarray, "F Y X 3"]:
    """All frames, RGB; of an `.npy` file the frames that somebody decoded before."""
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def split(frames: UInt8[np.ndarray, "F Y X 3"]) -> Split:
    """Shots by their cuts; every sixth is held out, so that no frame of it is trained on."""
    steps = differences(frames)
    shots = find_shots(steps)
    held_out = shots[HOLD_OUT_EVERY // 2 :: HOLD_OUT_EVERY]
    trained = [shot for shot in shots if shot not in held_out]
    total = np.concatenate([[0.0], np.cumsum(steps)])
    motion = np.zeros(len(frames))
    motion[: 1 - WINDOW] = (total[WINDOW - 1 :] - total[: 1 - WINDOW]) / (WINDOW - 1)
    return Split(_starts(trained), _starts(held_out), tuple(held_out), motion)


def differences(frames: UInt8[np.ndarray, "F Y X 3"]) -> Float[np.ndarray, " steps"]:
    """Mean absolute difference of every frame to the next one, of 255."""
    return np.array([np.abs(a.astype(np.int16) - b).mean() for a, b in pairwise(frames)])


def find_shots(steps: Float[np.ndarray, " steps"]) -> list[tuple[int, int]]:
    """(first frame, end) of every shot between the titles that is long enough for a window."""
    padded = np.pad(steps, 2, mode="edge")
    around = np.median([padded[i : i + len(steps)] for i in (0, 1, 3, 4)], axis=0)
    cuts = np.flatnonzero((steps > CUT) & (steps > CUT_RATIO * around)) + 1
    edges = [OPENING, *(cut for cut in cuts.tolist() if OPENING < cut < len(steps) + 1 - CLOSING)]
    edges.append(len(steps) + 1 - CLOSING)
    return [(a, b) for a, b in pairwise(edges) if b - a >= WINDOW]


def _starts(shots: list[tuple[int, int]]) -> Int[np.ndarray, " n"]:
    return np.concatenate([np.arange(first, end - WINDOW + 1) for first, end in shots])
