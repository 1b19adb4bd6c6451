"""The architecture of the interpolator's own networks from shapes alone: no file needs a configuration beside it."""

import math
from dataclasses import replace
from pathlib import Path

from convert.architecture.settings import CheckpointSettings
from convert.architecture.sizes import Shapes, Sizes, layers
from jax_interp.config import DiTConfig, T5Config, VideoTokenizerConfig, published_rotary_ratio
from jax_interp.errors import CheckpointError


def infer_dit(shapes: Shapes, folder: Path) -> DiTConfig:
    """Return the configuration of a diffusion transformer from the shapes of its keys `net.*`.

    Its rotary ratios are those of the release that it belongs to, which the sizes or the name of `folder` tell.

    Raises:
        CheckpointError: a key that tells a size is missing or of an impossible shape; names every one and `folder`.
    """
    block = "net.blocks.block0.blocks"
    sizes = Sizes(shapes, folder)
    inner, width = sizes.of(f"{block}.0.block.attn.to_q.0.weight", 2)
    (head_width,) = sizes.of(f"{block}.0.block.attn.to_q.1.weight", 1)
    _, text_width = sizes.of(f"{block}.1.block.attn.to_k.0.weight", 2)
    adaln_rank, _ = sizes.of(f"{block}.0.adaLN_modulation.1.weight", 2)
    mlp_width, _ = sizes.of(f"{block}.2.block.layer1.weight", 2)
    _, patch_in = sizes.of("net.x_embedder.proj.1.weight", 2)
    patch_out, _ = sizes.of("net.final_layer.linear.weight", 2)
    grid_t, grid_h, grid_w = (sizes.of(f"net.extra_pos_embedder.pos_emb_{axis}", 2)[0] for axis in "thw")
    num_blocks = sizes.count("net.blocks.block{}.*")
    sizes.check()
    # patch_in = (C + 2)p² and patch_out = Cp²: the two masks are what the input has more.
    patch_size = math.isqrt(max(0, patch_in - patch_out) // 2)
    if patch_size == 0 or patch_in - patch_out != 2 * patch_size**2 or patch_out % patch_size**2:
        raise CheckpointError(
            f"{folder}: x_embedder reads {patch_in} values a patch and final_layer writes {patch_out}; expected"
            " (C + 2)·p² and C·p² for latent channels C and patch size p"
        )
    config = DiTConfig(
        width=width,
        num_heads=sizes.quotient(inner, head_width, "to_q.0.weight has rows of heads of to_q.1.weight"),
        head_width=head_width,
        num_blocks=num_blocks,
        mlp_width=mlp_width,
        text_width=text_width,
        adaln_rank=adaln_rank,
        latent_channels=patch_out // patch_size**2,
        patch_size=patch_size,
        grid=(grid_t, grid_h, grid_w),
    )
    return replace(config, rotary_ratio=published_rotary_ratio(config, folder.name))


def infer_video_tokenizer(shapes: Shapes, folder: Path) -> VideoTokenizerConfig:
    """Return the configuration of a video tokenizer from the keys of its encoder, its decoder and `mean_std.*`.

    Raises:
        CheckpointError: a key that tells a size is missing or of an impossible shape; names every one and `folder`.
    """
    sizes = Sizes(shapes, folder)
    channels, patch_volume, *_ = sizes.of("encoder.conv_in.0.conv3d.weight", 5)
    latent_channels, *_ = sizes.of("quant_conv.conv3d.weight", 5)
    num_levels = sizes.count("encoder.down.{}.block.*")
    num_res_blocks = sizes.count("encoder.down.0.block.{}.*")
    widths = [sizes.of(f"encoder.down.{level}.block.0.conv1.0.conv3d.weight", 5)[0] for level in range(num_levels)]
    statistics = sizes.values("mean_std.0")
    sizes.check()
    patch_size = round((patch_volume / 3) ** (1 / 3))
    if 3 * patch_size**3 != patch_volume:
        raise CheckpointError(
            f"{folder}: encoder.conv_in reads {patch_volume} channels, expected 3·p³ for a patch size p (192 for 4)"
        )
    return VideoTokenizerConfig(
        channels=channels,
        channel_multipliers=tuple(
            sizes.quotient(width, channels, f"encoder.down.{level} is a multiple of encoder.conv_in")
            for level, width in enumerate(widths)
        ),
        num_res_blocks=num_res_blocks,
        latent_channels=latent_channels,
        patch_size=patch_size,
        resampled_encoder_levels=_resampled(shapes, "encoder.down.{}.downsample.conv1.*"),
        resampled_decoder_levels=_resampled(shapes, "decoder.up.{}.upsample.conv1.*"),
        latent_chunk=sizes.quotient(statistics, latent_channels, "mean_std.0 has as many values for each channel"),
    )


def infer_t5(shapes: Shapes, folder: Path) -> T5Config:
    """Return the configuration of a T5 encoder from Hugging Face's keys; a `config.json` in `folder` must agree.

    Raises:
        CheckpointError: a key that tells a size is missing or of an impossible shape, or `config.json` contradicts.
    """
    first = "encoder.block.0.layer"
    sizes = Sizes(shapes, folder)
    vocab_size, width = sizes.of("shared.weight", 2)
    num_buckets, num_heads = sizes.of(f"{first}.0.SelfAttention.relative_attention_bias.weight", 2)
    inner, _ = sizes.of(f"{first}.0.SelfAttention.q.weight", 2)
    mlp_width, _ = sizes.of(f"{first}.1.DenseReluDense.wi.weight", 2)
    num_layers = sizes.count("encoder.block.{}.*")
    sizes.check()
    config = T5Config(
        vocab_size=vocab_size,
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        head_width=sizes.quotient(inner, num_heads, "q.weight has rows of the heads of relative_attention_bias"),
        mlp_width=mlp_width,
        num_buckets=num_buckets,
    )
    _check_t5_settings(config, folder)
    return config


def _check_t5_settings(config: T5Config, folder: Path) -> None:
    """Raise `CheckpointError` where Hugging Face's settings say something else than the shapes or this network."""
    settings = CheckpointSettings.find(folder, ("config.json",))
    if settings is None:
        return
    settings.agree(
        {
            "vocab_size": config.vocab_size,
            "d_model": config.width,
            "num_layers": config.num_layers,
            "num_heads": config.num_heads,
            "d_kv": config.head_width,
            "d_ff": config.mlp_width,
            "relative_attention_num_buckets": config.num_buckets,
        }
    )
    settings.expect_given(
        {
            "relative_attention_max_distance": config.max_distance,
            "feed_forward_proj": "relu",
            "layer_norm_epsilon": 1e-6,
        }
    )
    settings.check()


def _resampled(shapes: Shapes, pattern: str) -> tuple[int, ...]:
    return tuple(sorted(set(layers(shapes, pattern))))
