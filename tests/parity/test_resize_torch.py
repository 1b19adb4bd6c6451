"""Resizing against `torch.nn.functional.interpolate`, the operation upstream calls."""

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from jax_interp.media.resize import normalize_and_resize
from tests import tolerances


def interpolate(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """What upstream does, in float32."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 128 - 1
    resized = torch.nn.functional.interpolate(
        pixels, (height, width), mode="bicubic", antialias=True, align_corners=False
    )
    return resized.permute(0, 2, 3, 1).contiguous().numpy()


@pytest.mark.parametrize("kind", ["noise", "smooth"])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((1080, 1920), (704, 1280)),
        ((300, 500), (704, 1280)),
        ((72, 120), (64, 96)),
        ((7, 5), (16, 32)),
        ((333, 97), (16, 32)),
        ((128, 64), (64, 128)),
        ((96, 160), (96, 80)),
    ],
)
def test_agrees_with_torch(source, target, kind, rng):
    if kind == "noise":
        frames = rng.integers(0, 256, (1, *source, 3), np.uint8)
    else:
        y, x = np.mgrid[: source[0], : source[1]]
        frames = np.stack([127 + 120 * np.sin(y / 9 + x / 13 + channel) for channel in range(3)], -1)[None].astype(
            np.uint8
        )
    oracle = interpolate(frames, *target)
    theirs = torch.from_numpy(oracle).bfloat16().float().numpy()
    ours = np.asarray(normalize_and_resize(frames, *target).astype(jnp.float32))
    assert (ours != theirs).mean() <= tolerances.RESIZE_BF16_OFF_TORCH
    # One bfloat16 rounding of a value that is itself right to float32 accuracy.
    assert np.all(np.abs(ours - oracle) <= np.abs(oracle) * 2**-8 + 1e-4)


def test_a_wrong_kernel_would_be_noticed(rng):
    frames = rng.integers(0, 256, (1, 72, 120, 3), np.uint8)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 128 - 1
    aliased = torch.nn.functional.interpolate(pixels, (64, 96), mode="bicubic", align_corners=False)
    theirs = aliased.permute(0, 2, 3, 1).bfloat16().float().numpy()
    ours = np.asarray(normalize_and_resize(frames, 64, 96).astype(jnp.float32))
    assert (ours != theirs).mean() > 0.5
