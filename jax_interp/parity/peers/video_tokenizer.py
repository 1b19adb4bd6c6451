"""diffusers' Cosmos autoencoder as a peer of the tokenizer, with upstream's names of its weights.

It knows no statistics of latents. Its wavelet filter is √½ in float32, where upstream's files have it rounded to
bfloat16; the peer gets the file's, as ours does.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_cosmos import AutoencoderKLCosmos
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from jax_interp.config import VideoTokenizerConfig

_RENAMES = (
    (r"(down_blocks\.\d+)\.downsamplers\.0\.(conv\d)", r"\1.downsample.\2.conv3d"),
    (r"(up_blocks\.\d+)\.upsamplers\.0\.(conv\d)", r"\1.upsample.\2.conv3d"),
    (r"conv_s\.", "0.conv3d."),
    (r"conv_t\.", "1.conv3d."),
    (r"conv_shortcut\.", "nin_shortcut.conv3d."),
    (r"\.to_([qkv])\.", r".\1.conv3d."),
    (r"\.to_out\.0\.", ".proj_out.conv3d."),
    (r"(quant_conv)\.", r"\1.conv3d."),
    (r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block."),
    (r"down_blocks\.", "down."),
    (r"up_blocks\.(\d+)\.resnets\.", r"up.\1.block."),
    (r"up_blocks\.", "up."),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0", "mid.attn_1.0"),
    (r"mid_block\.temp_attentions\.0", "mid.attn_1.1"),
)
"""diffusers' key names to upstream's, applied in turn; `up` is numbered the other way round besides."""

WAVELETS = {
    "encoder.patch_embed.wavelets": "encoder.patcher3d.wavelets",
    "decoder.unpatch_embed.wavelets": "decoder.unpatcher3d.wavelets",
}
"""The buffers that diffusers does not store, and the keys that upstream's files have for them."""


def build(config: VideoTokenizerConfig) -> AutoencoderKLCosmos:
    """Build the peer of `config`."""
    widths = [config.channels * multiplier for multiplier in config.channel_multipliers]
    return AutoencoderKLCosmos(
        latent_channels=config.latent_channels,
        encoder_block_out_channels=(config.channels, *widths),
        decode_block_out_channels=(*widths, widths[-1]),
        num_layers=config.num_res_blocks,
        patch_size=config.patch_size,
        attention_resolutions=(),
    )


def upstream_name(name: str, num_levels: int) -> str:
    """Return the key that upstream's files have for the peer's parameter `name`; levels are those of resolution."""
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"(?<=\bup\.)\d+", lambda level: str(num_levels - 1 - int(level[0])), name)


def encode(model: AutoencoderKLCosmos, pixels: torch.Tensor) -> torch.Tensor:
    """Return raw latents [B, T, H, W, C] of `pixels` [B, F, Y, X, 3]."""
    with _PoolsBfloat16():
        encoded: Any = model.encode(pixels.movedim(-1, 1).to(model.dtype), return_dict=False)[0]
    return encoded.mode().movedim(1, -1).float()


def decode(model: AutoencoderKLCosmos, latents: torch.Tensor) -> torch.Tensor:
    """Return pixels [B, F, Y, X, 3] of raw latents [B, T, H, W, C]."""
    decoded = model.decode(latents.movedim(-1, 1).to(model.dtype), return_dict=False)[0]
    return decoded.movedim(1, -1).float()


class _PoolsBfloat16(TorchFunctionMode):
    """Average pooling of bfloat16, which torch lacks on a CPU: as on a GPU, a float32 sum that is rounded once."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.avg_pool3d and args[0].dtype == torch.bfloat16:
            return func(args[0].float(), *args[1:], **kwargs).bfloat16()
        return func(*args, **kwargs)
