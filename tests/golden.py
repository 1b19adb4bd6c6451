"""The outputs of the upstream classes under tests/data (the README of each folder says what each file holds)."""

import json
from functools import cache
from pathlib import Path

import numpy as np

from jax_interp.evaluation import metrics
from jax_interp.parity.findings import relative_error
from jax_interp.parity.golden.recording import channels_last

__all__ = ["channels_last", "load", "manifest", "psnr", "relative_l2"]

ROOT = Path(__file__).parent / "data" / "golden"
CHECKPOINTS = ROOT / "checkpoints"
CLIP = ROOT / "inputs" / "clip.mp4"
VIDEO2WORLD = Path(__file__).parent / "data" / "golden_v2w"


@cache
def manifest(root: Path = ROOT) -> dict:
    return json.loads((root / "manifest.json").read_text())


def load(name: str, root: Path = ROOT) -> dict[str, np.ndarray]:
    """All arrays of `golden/<name>.npz`."""
    with np.load(root / "golden" / f"{name}.npz") as arrays:
        return dict(arrays)


def relative_l2(ours, theirs) -> float:
    """|ours - theirs| / |theirs| in float64; NaN compares as infinitely wrong."""
    assert np.shape(ours) == np.shape(theirs), f"{np.shape(ours)} against {np.shape(theirs)}"
    return relative_error(ours, theirs)


def psnr(ours, theirs) -> float:
    """Peak signal-to-noise ratio of uint8 frames in dB."""
    decibels = metrics.decibels((np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)) ** 2)
    return np.inf if decibels is None else decibels
