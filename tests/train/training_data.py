"""Tiny folders of training videos."""

from pathlib import Path

import numpy as np

from tests.media.clips import encode, waves

HEIGHT, WIDTH = 64, 96


def add_clip(data: Path, name: str, *, frames: int = 12, caption: str | None = "Waves.", size=(HEIGHT, WIDTH)) -> Path:
    """`videos/NAME.mp4` and, unless it is None, `metas/NAME.txt`."""
    for folder in ("videos", "metas"):
        (data / folder).mkdir(parents=True, exist_ok=True)
    if caption is not None:
        (data / "metas" / f"{name}.txt").write_text(caption)
    return encode(data / "videos" / f"{name}.mp4", np.roll(waves(frames, *size), len(name), axis=1))
