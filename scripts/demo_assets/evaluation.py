"""How good the demo's networks are on scenes they never saw: PSNR in dB, next to two trivial interpolations."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from demo_assets import training, transformer


def psnr(ours: Tensor, truth: Tensor) -> float:
    """Of pictures in [-1, 1]."""
    return -10 * math.log10(float(((ours - truth) ** 2).mean()) / 4)


@torch.no_grad()
def sample(network: transformer.DiT, z: Tensor, prompts: Tensor, steps: int = 35) -> Tensor:
    """Middle latent frame of `z [B, 16, 3, H, W]` from noise, by Euler steps."""
    sigmas = np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), steps + 1) ** 7
    x = torch.randn(z.shape, generator=torch.Generator().manual_seed(11)) * 80
    given_sigma = torch.full((len(z),), 0.001)
    x0 = x
    for now, then in zip(sigmas, [*sigmas[1:], 0], strict=True):
        x0 = training.denoise(network, x, z, torch.full((len(z),), float(now)), given_sigma, prompts)
        x = x0 + (x - x0) * float(then / now)
    return torch.cat([z[:, :, :1], x0[:, :, 1:2], z[:, :, 2:]], dim=2)


@torch.no_grad()
def report(
    encoder: nn.Module,
    decoder: nn.Module,
    network: transformer.DiT,
    statistics: training.Statistics,
    prompts: Tensor,
    size: tuple[int, int],
    seed: int,
    count: int = 24,
) -> dict[str, float]:
    """Mean PSNR over `count` new scenes: keyframes and clips through the tokenizer, and in-between frames."""
    mean, std, _, _ = (x[..., None, None] for x in statistics)
    scores: dict[str, list[float]] = {}
    for scene in training.random_scenes(count, size, seed + 1000):
        video = training.to_video(training.render(scene, size))
        z = training.encode_interval(encoder, statistics, video)[None]

        def decode(latents: Tensor) -> Tensor:
            return decoder(latents[:, :, :2] / training.SIGMA_DATA * std + mean)[0].clamp(-1, 1)

        truth, between = video[:, 1:9], torch.arange(1, 9)[:, None, None] / 9
        first, last = video[:, :1], video[:, 9:]
        values = {
            "keyframe, encoded and decoded": psnr(decode(z)[:, :1], first),
            "in-between, encoded and decoded": psnr(decode(z)[:, 1:], truth),
            "in-between, generated": psnr(decode(sample(network, z, prompts[None]))[:, 1:], truth),
            "in-between, keyframes blended": psnr(first * (1 - between) + last * between, truth),
            "in-between, nearest keyframe": psnr(torch.where(between < 0.5, first, last), truth),
        }
        for name, value in values.items():
            scores.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in scores.items()}
