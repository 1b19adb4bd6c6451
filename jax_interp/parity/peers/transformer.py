"""diffusers' `CosmosTransformer3DModel` as a peer of the transformer, with upstream's names of its weights."""

import re
from typing import Any

import torch
from diffusers import CosmosTransformer3DModel  # pyright: ignore[reportPrivateImportUsage]

from jax_interp.config import DiTConfig

_NAMES = (
    (r"patch_embed\.proj\.weight", "x_embedder.proj.1.weight"),
    (r"learnable_pos_embed\.pos_emb_([thw])", r"extra_pos_embedder.pos_emb_\1"),
    (r"time_embed\.t_embedder\.linear_([12])\.weight", r"t_embedder.1.linear_\1.weight"),
    (r"time_embed\.norm\.weight", "affline_norm.weight"),
    (r"transformer_blocks\.(\d+)\.norm1\.linear_([12])\.weight", r"blocks.block\1.blocks.0.adaLN_modulation.\2.weight"),
    (r"transformer_blocks\.(\d+)\.norm2\.linear_([12])\.weight", r"blocks.block\1.blocks.1.adaLN_modulation.\2.weight"),
    (r"transformer_blocks\.(\d+)\.norm3\.linear_([12])\.weight", r"blocks.block\1.blocks.2.adaLN_modulation.\2.weight"),
    (r"transformer_blocks\.(\d+)\.attn1\.norm_([qk])\.weight", r"blocks.block\1.blocks.0.block.attn.to_\2.1.weight"),
    (r"transformer_blocks\.(\d+)\.attn2\.norm_([qk])\.weight", r"blocks.block\1.blocks.1.block.attn.to_\2.1.weight"),
    (r"transformer_blocks\.(\d+)\.attn1\.to_([qkv])\.weight", r"blocks.block\1.blocks.0.block.attn.to_\2.0.weight"),
    (r"transformer_blocks\.(\d+)\.attn2\.to_([qkv])\.weight", r"blocks.block\1.blocks.1.block.attn.to_\2.0.weight"),
    (r"transformer_blocks\.(\d+)\.attn1\.to_out\.0\.weight", r"blocks.block\1.blocks.0.block.attn.to_out.0.weight"),
    (r"transformer_blocks\.(\d+)\.attn2\.to_out\.0\.weight", r"blocks.block\1.blocks.1.block.attn.to_out.0.weight"),
    (r"transformer_blocks\.(\d+)\.ff\.net\.0\.proj\.weight", r"blocks.block\1.blocks.2.block.layer1.weight"),
    (r"transformer_blocks\.(\d+)\.ff\.net\.2\.weight", r"blocks.block\1.blocks.2.block.layer2.weight"),
    (r"norm_out\.linear_([12])\.weight", r"final_layer.adaLN_modulation.\1.weight"),
    (r"proj_out\.weight", "final_layer.linear.weight"),
)


def build(config: DiTConfig, **options: Any) -> CosmosTransformer3DModel:
    """Build the peer of `config`; both mask channels are part of its input, so that it resizes none itself."""
    return CosmosTransformer3DModel(
        in_channels=config.input_channels,
        out_channels=config.latent_channels,
        num_attention_heads=config.num_heads,
        attention_head_dim=config.head_width,
        num_layers=config.num_blocks,
        mlp_ratio=config.mlp_width / config.width,
        text_embed_dim=config.text_width,
        adaln_lora_dim=config.adaln_rank,
        max_size=(config.grid[0], config.patch_size * config.grid[1], config.patch_size * config.grid[2]),
        patch_size=(1, config.patch_size, config.patch_size),
        rope_scale=config.rotary_ratio,
        concat_padding_mask=False,
        **options,
    )


def upstream_name(name: str) -> str:
    """Return the checkpoint key of the peer's parameter `name`."""
    for pattern, replacement in _NAMES:
        if re.fullmatch(pattern, name):
            return "net." + re.sub(pattern, replacement, name)
    raise KeyError(f"the peer has a parameter {name} that the checkpoint format does not know")


@torch.no_grad()
def forward(
    model: CosmosTransformer3DModel,
    x: torch.Tensor,
    c_noise: torch.Tensor,
    text: torch.Tensor,
    mask: torch.Tensor,
    padding_mask: torch.Tensor,
    fps: float,
) -> torch.Tensor:
    """Evaluate once; latents and masks are [B, T, H, W, C] as ours, the result is float32 in that order."""
    channels = torch.cat([x, mask, padding_mask], dim=-1).movedim(-1, 1).to(model.dtype)
    out = model(channels, c_noise.to(model.dtype), text.to(model.dtype), fps=fps, return_dict=False)[0]
    return out.movedim(1, -1).float()
