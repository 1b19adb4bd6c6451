"""Weight table of the video tokenizer: the state dicts of `encoder` and `decoder`, and the two files of statistics.

The statistics are tuples (mean, deviation), whose members are called `mean_std.0`, `mean_std.1` and so on.
"""

from convert.mapping.ops import Op, channel_table, channel_vector, keep, pointwise_conv, spatial_conv, temporal_conv
from convert.mapping.rules import Ignored, Rule


def _conv(src: str, dst: str, op: Op) -> tuple[Rule, ...]:
    return Rule(f"{src}.conv3d.weight", f"{dst}/kernel", op), Rule(f"{src}.conv3d.bias", f"{dst}/bias", keep)


def _factorized(src: str, dst: str) -> tuple[Rule, ...]:
    return _conv(f"{src}.0", f"{dst}/spatial", spatial_conv) + _conv(f"{src}.1", f"{dst}/temporal", temporal_conv)


def _norm(src: str, dst: str) -> tuple[Rule, ...]:
    return Rule(f"{src}.norm.weight", f"{dst}/scale", keep), Rule(f"{src}.norm.bias", f"{dst}/bias", keep)


def _residual(src: str, dst: str) -> tuple[Rule, ...]:
    return (
        *_norm(f"{src}.norm1", f"{dst}/norm1"),
        *_factorized(f"{src}.conv1", f"{dst}/conv1"),
        *_norm(f"{src}.norm2", f"{dst}/norm2"),
        *_factorized(f"{src}.conv2", f"{dst}/conv2"),
    )


def _attention(src: str, dst: str) -> tuple[Rule, ...]:
    return (
        *_norm(f"{src}.norm", f"{dst}/norm"),
        *_conv(f"{src}.q", f"{dst}/query", pointwise_conv),
        *_conv(f"{src}.k", f"{dst}/key", pointwise_conv),
        *_conv(f"{src}.v", f"{dst}/value", pointwise_conv),
        *_conv(f"{src}.proj_out", f"{dst}/out", pointwise_conv),
    )


def _coder(name: str) -> tuple[Rule, ...]:
    """Return the rules that encoder and decoder share: both ends and the middle block."""
    return (
        *_factorized(f"{name}.conv_in", f"{name}/conv_in"),
        *_residual(f"{name}.mid.block_1", f"{name}/mid/block_1"),
        *_attention(f"{name}.mid.attn_1.0", f"{name}/mid/spatial_attention"),
        *_attention(f"{name}.mid.attn_1.1", f"{name}/mid/temporal_attention"),
        *_residual(f"{name}.mid.block_2", f"{name}/mid/block_2"),
        *_norm(f"{name}.norm_out", f"{name}/norm_out"),
        *_factorized(f"{name}.conv_out", f"{name}/conv_out"),
    )


def _block(src: str, dst: str) -> tuple[Rule, ...]:
    """Return the rules of a residual block of a level; `nin_shortcut` exists where the width changes."""
    return _residual(src, dst) + _conv(f"{src}.nin_shortcut", f"{dst}/shortcut", pointwise_conv)


RULES = (
    Rule("encoder.patcher3d.wavelets", "encoder/patcher/wavelets", keep),
    *_coder("encoder"),
    *_block("encoder.down.{level}.block.{block}", "encoder/down_{level}/block_{block}"),
    *_conv("encoder.down.{level}.downsample.conv1", "encoder/down_{level}/resample/spatial", spatial_conv),
    *_conv("encoder.down.{level}.downsample.conv2", "encoder/down_{level}/resample/temporal", temporal_conv),
    *_conv("encoder.down.{level}.downsample.conv3", "encoder/down_{level}/resample/mix", pointwise_conv),
    *_conv("quant_conv", "encoder/to_latent", pointwise_conv),
    *_conv("post_quant_conv", "decoder/from_latent", pointwise_conv),
    *_coder("decoder"),
    *_block("decoder.up.{level}.block.{block}", "decoder/up_{level}/block_{block}"),
    *_conv("decoder.up.{level}.upsample.conv1", "decoder/up_{level}/resample/temporal", temporal_conv),
    *_conv("decoder.up.{level}.upsample.conv2", "decoder/up_{level}/resample/spatial", spatial_conv),
    *_conv("decoder.up.{level}.upsample.conv3", "decoder/up_{level}/resample/mix", pointwise_conv),
    Rule("decoder.unpatcher3d.wavelets", "decoder/unpatcher/wavelets", keep),
    Rule("mean_std.0", "stats/video_mean", channel_table),
    Rule("mean_std.1", "stats/video_std", channel_table),
    Rule("image_mean_std.0", "stats/image_mean", channel_vector),
    Rule("image_mean_std.1", "stats/image_std", channel_vector),
)

IGNORED = (
    Ignored("*patcher3d._arange", "0, 1: signs of the wavelet filter are written out"),
    Ignored("*patcher3d.patch_size_buffer", "the patch size follows from the width of the first convolution"),
)
