"""The outputs of the upstream classes under tests/data (the README of each folder says what each file holds)."""

import json
from functools import cache
from pathlib import Path

import numpy as np

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


def channels_last(x: np.ndarray) -> np.ndarray:
    """Upstream's [B, C, T, H, W] as our [B, T, H, W, C]."""
    return np.moveaxis(x, 1, -1)


def relative_l2(ours, theirs) -> float:
    """|ours - theirs| / |theirs| in float64; NaN compares as infinitely wrong."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, f"{ours.shape} against {theirs.shape}"
    error = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
    return error if np.isfinite(error) else np.inf


def psnr(ours, theirs) -> float:
    """Peak signal-to-noise ratio of uint8 frames in dB."""
    error = np.mean((np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else np.inf
