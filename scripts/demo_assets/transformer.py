"""The diffusion transformer in PyTorch (float32), small enough to train on a CPU, with the published key names.

`tests/scripts` holds it against the outputs of the published class.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Sizes:
    width: int = 96
    num_heads: int = 3
    num_blocks: int = 6
    text_width: int = 32
    adaln_rank: int = 16
    grid: tuple[int, int, int] = (16, 24, 24)
    latent_channels: int = 16

    @property
    def head_width(self) -> int:
        return self.width // self.num_heads


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def modulation(sizes: Sizes, parts: int) -> nn.Sequential:
    return nn.Sequential(
        nn.SiLU(), linear(sizes.width, sizes.adaln_rank), linear(sizes.adaln_rank, parts * sizes.width)
    )


def layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """`x [B, L, N, K]` turned by `angles [L, K]`; the two halves of the head width are a pair's components."""
    low, high = x.chunk(2, dim=-1)
    angles = angles[:, None]
    return x * angles.cos() + torch.cat([-high, low], dim=-1) * angles.sin()


class Attention(nn.Module):
    """Multi-head attention with RMS-normed queries and keys."""

    def __init__(self, sizes: Sizes, source: int):
        super().__init__()
        width, head = sizes.width, sizes.head_width
        self.heads = (sizes.num_heads, head)
        self.attn = nn.ModuleDict({
            "to_q": nn.Sequential(linear(width, width), nn.RMSNorm(head, eps=1e-6)),
            "to_k": nn.Sequential(linear(source, width), nn.RMSNorm(head, eps=1e-6)),
            "to_v": nn.Sequential(linear(source, width), nn.Identity()),
            "to_out": nn.Sequential(linear(width, width), nn.Identity()),
        })  # fmt: skip

    def forward(self, x: Tensor, source: Tensor | None = None, angles: Tensor | None = None) -> Tensor:
        """Attends from `x` to `source`, or to itself; `angles` turn queries and keys."""
        source = x if source is None else source
        q, k, v = (self.project(name, y) for name, y in (("to_q", x), ("to_k", source), ("to_v", source)))
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.attn["to_out"](y.transpose(1, 2).flatten(2))

    def project(self, name: str, x: Tensor) -> Tensor:
        linear, norm = cast(nn.Sequential, self.attn[name])
        return norm(linear(x).unflatten(-1, self.heads))


class MLP(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.layer1, self.layer2 = linear(width, 4 * width), linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer2(F.gelu(self.layer1(x)))


class SubBlock(nn.Module):
    def __init__(self, sizes: Sizes, block: nn.Module):
        super().__init__()
        self.block, self.adaLN_modulation = block, modulation(sizes, 3)

    def forward(self, x: Tensor, emb: Tensor, lora: Tensor, **context: Tensor) -> Tensor:
        shift, scale, gate = (self.adaLN_modulation(emb) + lora)[:, None].chunk(3, dim=-1)
        return x + gate * self.block(layer_norm(x) * (1 + scale) + shift, **context)


class Block(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        parts = (Attention(sizes, sizes.width), Attention(sizes, sizes.text_width), MLP(sizes.width))
        self.blocks = nn.ModuleList(SubBlock(sizes, part) for part in parts)

    def forward(self, x: Tensor, emb: Tensor, lora: Tensor, text: Tensor, angles: Tensor) -> Tensor:
        attend, read, think = self.blocks
        x = attend(x, emb, lora, angles=angles)
        x = read(x, emb, lora, source=text)
        return think(x, emb, lora)


class FinalLayer(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.linear, self.adaLN_modulation = linear(sizes.width, 4 * sizes.latent_channels), modulation(sizes, 2)

    def forward(self, x: Tensor, emb: Tensor, lora: Tensor) -> Tensor:
        both = self.adaLN_modulation(emb) + lora[:, : 2 * x.shape[-1]]
        shift, scale = both[:, None].chunk(2, dim=-1)
        return self.linear(layer_norm(x) * (1 + scale) + shift)


class TimeMLP(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.linear_1, self.linear_2 = linear(width, width), linear(width, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class DiT(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes, width = sizes, sizes.width
        self.x_embedder = nn.ModuleDict({
            "proj": nn.Sequential(nn.Identity(), linear(4 * (sizes.latent_channels + 2), width))
        })  # fmt: skip
        positions = {f"pos_emb_{axis}": torch.zeros(n, width) for axis, n in zip("thw", sizes.grid, strict=True)}
        self.extra_pos_embedder = nn.ParameterDict(positions)
        self.t_embedder = nn.Sequential(nn.Identity(), TimeMLP(width))
        self.affline_norm = nn.RMSNorm(width, eps=1e-6)
        self.blocks = nn.ModuleDict({f"block{i}": Block(sizes) for i in range(sizes.num_blocks)})
        self.final_layer = FinalLayer(sizes)

    def forward(self, x: Tensor, c_noise: Tensor, text: Tensor, mask: Tensor, fps: Tensor, padding: Tensor) -> Tensor:
        """Latents `x [B, 16, T, H, W]`, `mask` and `padding [B, 1, T, H, W]` to an output shaped like `x`."""
        x = torch.cat([x, mask, padding], dim=1)
        b, c, t, h, w = x.shape
        h, w = h // 2, w // 2
        x = x.reshape(b, c, t, h, 2, w, 2).permute(0, 2, 3, 5, 1, 4, 6).reshape(b, t * h * w, 4 * c)
        x = self.x_embedder["proj"](x)
        half = self.sizes.width // 2
        wave = c_noise[:, None] * torch.exp(-math.log(10000) * torch.arange(half, device=c_noise.device) / half)
        wave = torch.cat([wave.cos(), wave.sin()], dim=-1)
        emb, lora = self.affline_norm(wave), self.t_embedder(wave)
        where, angles = self.positions(t, h, w), self.angles(t, h, w, fps)
        for block in self.blocks.values():
            x = block(x + where, emb, lora, text, angles)
        x = self.final_layer(x, emb, lora).reshape(b, t, h, w, 2, 2, -1)
        return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(b, -1, t, 2 * h, 2 * w)

    def positions(self, t: int, h: int, w: int) -> Tensor:
        table = self.extra_pos_embedder
        total = table["pos_emb_t"][:t, None, None] + table["pos_emb_h"][:h, None] + table["pos_emb_w"][:w]
        norm = torch.linalg.vector_norm(total, dim=-1, keepdim=True)
        return (total / (1e-6 + norm / math.sqrt(self.sizes.width))).flatten(0, 2)

    def angles(self, t: int, h: int, w: int, fps: Tensor) -> Tensor:
        head = self.sizes.head_width
        side = head // 6 * 2
        widths = (head - 2 * side, side, side)
        places = (torch.arange(t) * 24 / float(fps[0]), torch.arange(h), torch.arange(w))
        tables = []
        for width, ratio, place, axis in zip(widths, (2.0, 1.0, 1.0), places, range(3), strict=True):
            base = 10000 * ratio ** (width / (width - 2))
            angle = torch.outer(place.float(), base ** -(torch.arange(0, width, 2) / width))
            tables.append(angle.reshape([-1 if i == axis else 1 for i in range(3)] + [width // 2]).expand(t, h, w, -1))
        return torch.cat(tables * 2, dim=-1).flatten(0, 2).to(fps.device)
