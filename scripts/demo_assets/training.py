"""Trains the demo's tokenizer and diffusion transformer on rendered clips, in float32."""

import copy
import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from demo_assets import text, tokenizer, transformer
from demo_assets.scene import STEPS_A_PAIR, Scene, random_scene

CLIP_FRAMES = 9
"""Frames the tokenizer takes at once: one, and eight more that become the second latent frame."""
CROP = (64, 96)
SIGMA_DATA = 0.5
CAPTION_ROWS = 96
TOKENIZER_SCENES, DIT_SCENES = 400, 1200
PROMPT_SOURCE = Path(__file__).parents[2] / "tests/data/golden/manifest.json"

RANDOM = re.compile(r".*\.(conv1\.[01]|conv2\.0)\.conv3d\.weight")
SILENT = re.compile(r".*\.(conv2\.1|proj_out|(down|up)sample\.conv[12])\.conv3d\.weight")
"""Convolutions of the tokenizer's branches: those that start random, and those that start at zero."""


@dataclass(frozen=True)
class Effort:
    """Where to train, and how many batches of the size for a CPU make one step."""

    device: str = "cpu"
    batches: int = 1


Statistics = tuple[Tensor, Tensor, Tensor, Tensor]
"""Mean and deviation `[C, 2]` of a clip's latents, then `[C]` of a picture's."""


def random_scenes(count: int, size: tuple[int, int], seed: int) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [random_scene(rng, size[1] / size[0]) for _ in range(count)]


def render(scene: Scene, size: tuple[int, int]) -> Tensor:
    """One keyframe interval with both keyframes: uint8 `[3, 10, Y, X]`."""
    return torch.from_numpy(scene.clip(np.linspace(0, 1, STEPS_A_PAIR + 1), *size)).movedim(-1, 0)


def to_video(frames: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1)."""
    return frames.float() / 128 - 1


def fit(network: nn.Module, steps: int, learning_rate: float, loss: Callable[[int], Tensor]) -> None:
    """AdamW with warm-up and cosine decay; leaves the running average of the weights in `network`."""
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    start, recent = time.monotonic(), 0.0
    for step in range(steps):
        pace = min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * pace
        value = loss(step)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            for kept, new in zip(average.parameters(), network.parameters(), strict=True):
                kept.lerp_(new, max(0.004, 5 / (step + 5)))
        recent = value.item() if step == 0 else 0.98 * recent + 0.02 * value.item()
        if step % 100 == 0:
            print(f"step {step}/{steps} loss {recent:.4f} {time.monotonic() - start:.0f} s", flush=True)
    if steps:
        network.load_state_dict(average.state_dict())


def train_tokenizer(
    sizes: tokenizer.Sizes, steps: int, size: tuple[int, int], seed: int, effort: Effort
) -> tuple[tokenizer.EncoderFile, tokenizer.DecoderFile]:
    """Encoder and decoder that reproduce rendered clips and single pictures."""
    torch.manual_seed(seed)
    encoder, decoder = tokenizer.EncoderFile(sizes), tokenizer.DecoderFile(sizes)
    initialise_tokenizer(encoder, decoder)
    encoder.to(effort.device)
    decoder.to(effort.device)
    clips = [
        render(scene, size).to(effort.device)
        for scene in random_scenes(TOKENIZER_SCENES if steps else 0, size, seed + 1)
    ]

    def loss(step: int) -> Tensor:
        frames = 1 if step % 4 == 3 else CLIP_FRAMES
        x = torch.stack(
            [random_crop(clips[i], frames) for i in torch.randint(len(clips), (4 * effort.batches,)).tolist()]
        )
        z = encoder(x)
        # Noise, relative to the latents' own scale, keeps neighbouring latents alike: the transformer needs that.
        noise = 0.05 * z.detach().std(dim=(0, 2, 3, 4), keepdim=True) * torch.randn_like(z)
        error = decoder(z + noise) - x
        return error.abs().mean() + 2 * (error**2).mean()

    fit(nn.ModuleList([encoder, decoder]), steps, 7e-4, loss)
    return encoder.cpu(), decoder.cpu()


def initialise_tokenizer(encoder: tokenizer.EncoderFile, decoder: tokenizer.DecoderFile) -> None:
    """Start as a linear autoencoder of low frequencies, with branches that add nothing.

    From PyTorch's own initial values the networks spend thousands of steps on grey pictures.
    """
    parts = nn.ModuleDict({"e": encoder, "d": decoder})
    for module in parts.modules():
        if isinstance(module, nn.Conv3d):
            pass_through(module)
    for name, weight in parts.named_parameters():
        if RANDOM.fullmatch(name):
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
        elif SILENT.fullmatch(name):
            nn.init.zeros_(weight)
    first = parts.get_parameter("e.encoder.conv_in.0.conv3d.weight")
    nn.init.zeros_(first)
    # Averages of the three colours and their first differences along width, height and time.
    for channel, band in enumerate([band + colour for band in (0, 24, 48, 96) for colour in range(3)]):
        first.data[channel, band, 0, 1, 1] = 2.0 if band < 3 else 4.0
    # A fixed pattern under the signal: the last norm would otherwise take away how bright a frame is.
    nn.init.normal_(parts.get_parameter("e.encoder.conv_in.1.conv3d.bias"))
    nn.init.normal_(parts.get_parameter("d.decoder.conv_in.1.conv3d.bias"))
    parts.get_parameter("d.decoder.conv_out.1.conv3d.weight").data *= 0.1


def pass_through(conv: nn.Conv3d) -> None:
    """Only the tap at the output's own place is not zero; it mixes channels without losing any (orthogonal)."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(cast(Tensor, conv.bias))
    rows, columns = conv.weight.shape[3] // 2, conv.weight.shape[4] // 2
    nn.init.orthogonal_(conv.weight.data[:, :, -1, rows, columns])


def random_crop(clip: Tensor, frames: int) -> Tensor:
    """A crop of uint8 `[3, F, Y, X]`, mirrored and played backwards at random; float32 in [-1, 1)."""
    first, top, left = (
        int(torch.randint(have - want + 1, ())) for have, want in zip(clip.shape[1:], (frames, *CROP), strict=True)
    )
    clip = clip[:, first : first + frames, top : top + CROP[0], left : left + CROP[1]]
    turned = [axis for axis in (1, 2, 3) if torch.rand(()) < 0.5]
    return to_video(clip.flip(turned))


@torch.no_grad()
def latent_statistics(encoder: nn.Module, size: tuple[int, int], seed: int) -> Statistics:
    scenes = random_scenes(48, size, seed + 2)
    z = torch.cat([encoder(to_video(render(scene, size))[None, :, :CLIP_FRAMES]) for scene in scenes])
    mean, std = z.mean(dim=(0, 3, 4)), z.std(dim=(0, 3, 4))
    # The encoder is causal, so a picture's latent is a clip's first one.
    return mean, std, mean[:, 0].clone(), std[:, 0].clone()


@torch.no_grad()
def encode_interval(encoder: nn.Module, statistics: Statistics, video: Tensor) -> Tensor:
    """Ten frames `[3, 10, Y, X]` to the three latent frames `[16, 3, H, W]` the transformer works on."""
    mean, std, image_mean, image_std = (x[..., None, None] for x in statistics)
    clip = (encoder(video[None, :, :CLIP_FRAMES])[0] - mean) / std
    picture = (encoder(video[None, :, CLIP_FRAMES:])[0] - image_mean[:, None]) / image_std[:, None]
    return torch.cat([clip, picture], dim=1) * SIGMA_DATA


def train_dit(
    sizes: transformer.Sizes,
    encoder: nn.Module,
    statistics: Statistics,
    t5_folder: Path,
    steps: int,
    size: tuple[int, int],
    seed: int,
    effort: Effort,
) -> transformer.DiT:
    """A transformer that fills in the middle latent frame between two clean ones."""
    torch.manual_seed(seed + 3)
    network = transformer.DiT(sizes)
    initialise(network)
    if not steps:
        return network
    scenes = random_scenes(DIT_SCENES, size, seed + 4)
    encoder.to(effort.device)
    tables = cast(Statistics, tuple(table.to(effort.device) for table in statistics))
    clips = (to_video(augmented(render(scene, size))).to(effort.device) for scene in scenes)
    latents = torch.stack([encode_interval(encoder, tables, clip) for clip in clips])
    encoder.cpu()
    network.to(effort.device)
    captions = text.encode(t5_folder, [scene.caption() for scene in scenes])[:, :CAPTION_ROWS].clone()
    negative = negative_prompt(t5_folder)
    batch = 8 * effort.batches

    def loss(_: int) -> Tensor:
        chosen = torch.randint(len(latents), (batch,))
        prompts = torch.zeros(batch, text.MAX_TOKENS, sizes.text_width)
        prompts[0::8, :CAPTION_ROWS], prompts[1::8, :CAPTION_ROWS] = captions[chosen[0::8]], captions[chosen[1::8]]
        for share in (2, 3, 4, 5, 6):
            prompts[share::8] = negative
        return denoising_loss(network, latents[chosen.to(effort.device)], prompts.to(effort.device))

    fit(network, steps, 2e-3, loss)
    return network.cpu()


def negative_prompt(t5_folder: Path) -> Tensor:
    """Embedding `[512, D]` of the published default, which is the text of every run at the default guidance."""
    return text.encode(t5_folder, [json.loads(PROMPT_SOURCE.read_text())["negative_prompt"]])[0]


def initialise(network: transformer.DiT) -> None:
    """Small residual branches at the start: the last matrix of every modulation is zero, so is the output."""
    for name, parameter in network.named_parameters():
        if "adaLN_modulation.2" in name or name.endswith("linear_2.weight") or name.startswith("final_layer.linear"):
            nn.init.normal_(parameter, std=0.02)
        elif "pos_emb" in name:
            nn.init.normal_(parameter, std=0.5)


def augmented(clip: Tensor) -> Tensor:
    return clip.flip([axis for axis in (1, 2, 3) if torch.rand(()) < 0.5])


def denoising_loss(network: transformer.DiT, z: Tensor, prompts: Tensor) -> Tensor:
    """Squared error of the preconditioned prediction of latent frame 1; frames 0 and 2 are given (nearly) clean."""
    batch = len(z)
    log_sigma = torch.where(torch.rand(batch) < 0.2, torch.rand(batch) * 10.6 - 6.2, torch.randn(batch) * 1.4 + 0.3)
    given_sigma = torch.where(torch.rand(batch) < 0.25, torch.exp(torch.randn(batch) * 2 - 3), torch.tensor(0.001))
    log_sigma, given_sigma = log_sigma.to(z.device), given_sigma.to(z.device)
    noisy = z + log_sigma.exp()[:, None, None, None, None] * torch.randn_like(z)
    given = z + given_sigma[:, None, None, None, None] * torch.randn_like(z)
    x0 = denoise(network, noisy, given, log_sigma.exp(), given_sigma, prompts)
    sigma = log_sigma.exp()[:, None, None, None]
    weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    return (weight * (x0[:, :, 1] - z[:, :, 1]) ** 2).mean()


def denoise(
    network: transformer.DiT, noisy: Tensor, given: Tensor, sigma: Tensor, given_sigma: Tensor, prompts: Tensor
) -> Tensor:
    """Predicted clean latents from `noisy` at `sigma [B]`; frames 0 and 2 come from `given` at `given_sigma [B]`."""
    total, given_total = ((s**2 + SIGMA_DATA**2)[:, None, None, None, None] for s in (sigma, given_sigma))
    mask = torch.tensor([1.0, 0.0, 1.0], device=noisy.device).reshape(1, 1, 3, 1, 1).expand_as(noisy[:, :1])
    x = noisy / total.sqrt() * (1 - mask) + given / given_total.sqrt() * mask
    out = network(
        x, sigma.log() / 4, prompts, mask, torch.full((len(x),), 24.0, device=x.device), torch.zeros_like(mask)
    )
    return noisy * SIGMA_DATA**2 / total + out * sigma[:, None, None, None, None] * SIGMA_DATA / total.sqrt()
