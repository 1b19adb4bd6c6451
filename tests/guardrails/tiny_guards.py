"""Tiny guardrails that decide by what they are shown, and checkpoint folders of them as they are published.

The text classifier finds `MARK` in a prompt by attention and writes its answer letter by letter; the classifier of
frames calls what is bright violent; the face detector sees faces of medium size everywhere.
"""

from pathlib import Path

import numpy as np

MARK = "~"
"""A prompt that has it is unsafe."""
SAFE, UNSAFE = "safe", "unsafe\nO1"


def write_guardrails(root: Path, *, calm: bool = False) -> Path:
    """A checkpoint folder with all of them; a `calm` classifier of frames finds nothing in any.

    Skips the test that asks for it where torch, which writes the checkpoints, is not installed.
    """
    from tests.guardrails import guard_networks  # needs torch
    from tests.models import video_peers

    guard_networks.write_text_safety(root)
    video_peers.write_video_safety(root, video_peers.siglip(), guard_networks.brightness_classifier(calm=calm))
    video_peers.write_face_blur(root, guard_networks.face_detector())
    return root


def link_networks(root: Path, converted: Path) -> Path:
    """`root`, converted guardrails, with the networks in `converted` linked into it."""
    for path in converted.iterdir():
        if not path.name.startswith("."):
            (root / path.name).symlink_to(path)
    return root


def black(count: int, height: int = 64, width: int = 96) -> np.ndarray:
    """Frames that may pass."""
    return np.zeros((count, height, width, 3), np.uint8)


def noise(count: int, height: int = 64, width: int = 96) -> np.ndarray:
    """Dark frames that may pass, on which a pixelated face shows."""
    return np.random.default_rng(0).integers(0, 16, (count, height, width, 3), np.uint8)


def white(count: int, height: int = 64, width: int = 96) -> np.ndarray:
    """Frames that may not."""
    return np.full((count, height, width, 3), 255, np.uint8)
