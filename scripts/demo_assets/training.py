"""Trains the demo's tokenizer and diffusion transformer on rendered clips: CPU, float32, deterministic for a seed."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo_assets import text, tokenizer, transformer
from demo_assets.scene import STEPS_A_PAIR, random_scene

CLIP_FRAMES = 9
"""Frames the tokenizer takes at once: one, and eight more that become the second latent frame."""
SIGMA_DATA = 0.5
Statistics = tuple[Tensor, Tensor, Tensor, Tensor]
"""Mean and deviation `[C, 2]` of a clip's latents, then `[C]` of a picture's."""


def to_video(frames: np.ndarray) -> Tensor:
    """uint8 `[F, Y, X, 3]` -> float32 `[3, F, Y, X]` in [-1, 1)."""
    return torch.from_numpy(frames).movedim(-1, 0).float() / 128 - 1


def render_clips(count: int, size: tuple[int, int], seed: int) -> Tensor:
    """Random scenes over one keyframe interval, both keyframes included: uint8 `[n, 10, Y, X, 3]`."""
    height, width = size
    times = np.linspace(0, 1, STEPS_A_PAIR + 1)
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([random_scene(rng, width / height).clip(times, height, width) for _ in range(count)]))


def train_tokenizer(
    sizes: tokenizer.Sizes, steps: int, size: tuple[int, int], seed: int
) -> tuple[tokenizer.EncoderFile, tokenizer.DecoderFile]:
    """Encoder and decoder that reproduce rendered clips and single pictures."""
    torch.manual_seed(seed)
    encoder, decoder = tokenizer.EncoderFile(sizes), tokenizer.DecoderFile(sizes)
    both = nn.ModuleList([encoder, decoder])
    clips = render_clips(TOKENIZER_CLIPS, size, seed + 1) if steps else torch.empty(0)
    for step in optimise(both, steps, learning_rate=3e-3):
        frames = 1 if step % 4 == 3 else CLIP_FRAMES
        x = augment(clips, batch=4, frames=frames, crop=CROP)
        z = encoder(x)
        # Noise keeps neighbouring latents alike, which the diffusion model needs; the penalty keeps their scale near 1.
        y = decoder(z + 0.1 * torch.randn_like(z))
        error = y - x
        report(step.backward(error.abs().mean() + 2 * (error**2).mean() + 1e-3 * (z**2).mean()), "tokenizer")
    return encoder, decoder
