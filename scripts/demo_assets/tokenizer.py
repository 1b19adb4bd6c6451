"""The causal video tokenizer in PyTorch, small enough to train on a CPU, with the published checkpoint's key names.

Layout `[B, C, T, H, W]`. `tests/scripts` holds it against the outputs of the published classes.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Sizes:
    channels: int = 12
    multipliers: tuple[int, ...] = (2, 4, 4)
    num_res_blocks: int = 2
    latent_channels: int = 16


class CausalConv(nn.Module):
    """A convolution that sees no later frame: the first frame is repeated in front, zeros go around each frame."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int, int], stride=(1, 1, 1), pad_space: bool = True
    ):
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride)
        self.before = kernel[0] - stride[0] if kernel[0] > 1 else 0
        self.around = (kernel[1] // 2) if pad_space else 0

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x[:, :, :1]] * self.before + [x], dim=2)
        return self.conv3d(F.pad(x, (self.around,) * 4))


def factorised(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(CausalConv(inputs, outputs, (1, 3, 3)), CausalConv(outputs, outputs, (3, 1, 1)))


def pointwise(inputs: int, outputs: int) -> CausalConv:
    return CausalConv(inputs, outputs, (1, 1, 1))


class FrameNorm(nn.Module):
    """Group norm with one group, each frame by itself."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(1, channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        return self.norm(x.transpose(1, 2).reshape(b * t, c, h, w)).reshape(b, t, c, h, w).transpose(1, 2)


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class ResBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm1, self.conv1 = FrameNorm(inputs), factorised(inputs, outputs)
        self.norm2, self.conv2 = FrameNorm(outputs), factorised(outputs, outputs)
        if inputs != outputs:
            self.nin_shortcut = pointwise(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(swish(self.norm2(self.conv1(swish(self.norm1(x))))))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + y


class Attention(nn.Module):
    """One head over the pixels of a frame, or over the frames of a pixel with a causal mask."""

    def __init__(self, channels: int, over_time: bool):
        super().__init__()
        self.norm = FrameNorm(channels)
        self.q, self.k, self.v, self.proj_out = (pointwise(channels, channels) for _ in range(4))
        self.over_time = over_time

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        y = self.norm(x)
        axes = (0, 3, 4, 2, 1) if self.over_time else (0, 2, 3, 4, 1)
        tokens = t if self.over_time else h * w
        q, k, v = (f(y).permute(axes).reshape(-1, tokens, c) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.over_time)
        y = (
            y.reshape(b, h, w, t, c).permute(0, 4, 3, 1, 2)
            if self.over_time
            else y.reshape(b, t, h, w, c).movedim(-1, 1)
        )
        return x + self.proj_out(y)


class Down(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = CausalConv(channels, channels, (1, 3, 3), (1, 2, 2), pad_space=False)
        self.conv2 = CausalConv(channels, channels, (3, 1, 1), (2, 1, 1))
        self.conv3 = pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(F.pad(x, (0, 1, 0, 1))) + x.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).mean(dim=(4, 6))
        x = torch.cat([x[:, :, :1], x], dim=2)
        return self.conv3(self.conv2(x) + x.unflatten(2, (-1, 2)).mean(dim=3))


class Up(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = CausalConv(channels, channels, (3, 1, 1))
        self.conv2 = CausalConv(channels, channels, (1, 3, 3))
        self.conv3 = pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x.repeat_interleave(2, dim=2)[:, :, 1:] if x.shape[2] > 1 else x
        x = self.conv1(x) + x
        x = x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
        return self.conv3(self.conv2(x) + x)


class Haar(nn.Module):
    """Two levels of a 3D haar transform and the way back; the filter is the checkpoint's own (rounded) one."""

    levels = 2

    def __init__(self, forward_only: bool):
        super().__init__()
        self.register_buffer("wavelets", torch.tensor([0.70703125, 0.70703125]))
        self.register_buffer("_arange", torch.arange(2))
        if forward_only:
            self.register_buffer("patch_size_buffer", 4 * torch.ones([1], dtype=torch.int32))

    def filters(self) -> tuple[Tensor, Tensor]:
        low = self.get_buffer("wavelets")
        return low, low * (1 - 2 * self.get_buffer("_arange")).to(low.dtype)

    def split(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, 8C, T/2, H/2, W/2], sub-bands in the order LLL, LLH, ..., HHH of (t, h, w)."""
        bands = [x]
        for axis in (2, 3, 4):
            pairs = [(band.unflatten(axis, (-1, 2)).movedim(axis + 1, -1)) for band in bands]
            bands = [pair @ f for pair in pairs for f in self.filters()]
        return torch.cat(bands, dim=1) / 8**0.5

    def join(self, x: Tensor) -> Tensor:
        bands = list(x.chunk(8, dim=1))
        for axis in (4, 3, 2):
            low, high = self.filters()
            merged = [a[..., None] * low + b[..., None] * high for a, b in zip(bands[::2], bands[1::2], strict=True)]
            bands = [band.movedim(-1, axis + 1).flatten(axis, axis + 1) for band in merged]
        return bands[0] * 8**0.5

    def patch(self, x: Tensor) -> Tensor:
        x = torch.cat([x[:, :, :1].repeat_interleave(4, dim=2), x[:, :, 1:]], dim=2)
        for _ in range(self.levels):
            x = self.split(x)
        return x

    def unpatch(self, x: Tensor) -> Tensor:
        for _ in range(self.levels):
            x = self.join(x)
        return x[:, :, 3:]


def middle(channels: int) -> nn.ModuleDict:
    return nn.ModuleDict({
        "block_1": ResBlock(channels, channels),
        "attn_1": nn.Sequential(Attention(channels, over_time=False), Attention(channels, over_time=True)),
        "block_2": ResBlock(channels, channels),
    })  # fmt: skip


class Encoder(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        widths = [sizes.channels, *(sizes.channels * m for m in sizes.multipliers)]
        self.patcher3d = Haar(forward_only=True)
        self.conv_in = factorised(3 * 64, widths[0])
        self.down = nn.ModuleList()
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            blocks = [ResBlock(inputs if i == 0 else outputs, outputs) for i in range(sizes.num_res_blocks)]
            parts: dict[str, nn.Module] = {"block": nn.ModuleList(blocks)}
            if level == 0:
                parts["downsample"] = Down(outputs)
            self.down.append(nn.ModuleDict(parts))
        self.mid = middle(widths[-1])
        self.norm_out, self.conv_out = FrameNorm(widths[-1]), factorised(widths[-1], sizes.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(self.patcher3d.patch(x))
        for level in self.down:
            assert isinstance(level, nn.ModuleDict)
            for block in level["block"]:  # type: ignore[attr-defined]
                x = block(x)
            x = level["downsample"](x) if "downsample" in level else x
        for part in self.mid.values():
            x = part(x)
        return self.conv_out(swish(self.norm_out(x)))


class Decoder(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        widths = [sizes.channels * m for m in sizes.multipliers]
        self.unpatcher3d = Haar(forward_only=False)
        self.conv_in = factorised(sizes.latent_channels, widths[-1])
        self.mid = middle(widths[-1])
        levels = []
        inputs = widths[-1]
        for level in reversed(range(len(widths))):
            outputs = widths[level]
            blocks = [ResBlock(inputs if i == 0 else outputs, outputs) for i in range(sizes.num_res_blocks + 1)]
            parts: dict[str, nn.Module] = {"block": nn.ModuleList(blocks)}
            if level == 1:
                parts["upsample"] = Up(outputs)
            levels.insert(0, nn.ModuleDict(parts))
            inputs = outputs
        self.up = nn.ModuleList(levels)
        self.norm_out, self.conv_out = FrameNorm(widths[0]), factorised(widths[0], 3 * 64)

    def forward(self, z: Tensor) -> Tensor:
        x = self.conv_in(z)
        for part in self.mid.values():
            x = part(x)
        for level in reversed(self.up):
            assert isinstance(level, nn.ModuleDict)
            for block in level["block"]:  # type: ignore[attr-defined]
                x = block(x)
            x = level["upsample"](x) if "upsample" in level else x
        return self.unpatcher3d.unpatch(self.conv_out(swish(self.norm_out(x))))


class EncoderFile(nn.Module):
    """What `encoder.jit` holds: video in [-1, 1] to raw latents."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.encoder = Encoder(sizes)
        self.quant_conv = pointwise(sizes.latent_channels, sizes.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(x))


class DecoderFile(nn.Module):
    """What `decoder.jit` holds: raw latents to video."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.post_quant_conv = pointwise(sizes.latent_channels, sizes.latent_channels)
        self.decoder = Decoder(sizes)

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z))
