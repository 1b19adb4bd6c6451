"""The decoder, from latents to pixels."""

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jax_interp.config import VideoTokenizerConfig
from jax_interp.models.video_tokenizer.attention import MiddleBlock
from jax_interp.models.video_tokenizer.encoder import PIXEL_CHANNELS
from jax_interp.models.video_tokenizer.layers import FactorizedConv, Features, FrameNorm, Past, PointwiseConv
from jax_interp.models.video_tokenizer.levels import Level, Upsample
from jax_interp.models.video_tokenizer.wavelet import Unpatcher
from jax_interp.types import Latents


class Decoder(nnx.Module):
    """The decoder, which mirrors the encoder; levels are numbered as the encoder's, so the last one runs first."""

    def __init__(self, config: VideoTokenizerConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        keywords = {"dtype": dtype, "rngs": rngs}
        widths = [config.channels * multiplier for multiplier in config.channel_multipliers]
        self.dtype = dtype
        self.num_levels = len(widths)
        self.from_latent = PointwiseConv(config.latent_channels, config.latent_channels, **keywords)
        self.conv_in = FactorizedConv(config.latent_channels, widths[-1], **keywords)
        self.mid = MiddleBlock(widths[-1], **keywords)
        for i, width in enumerate(widths):
            resample = Upsample if i in config.resampled_decoder_levels else None
            level = Level([*widths, widths[-1]][i + 1], width, config.num_res_blocks + 1, resample, **keywords)
            setattr(self, f"up_{i}", level)
        self.norm_out = FrameNorm(widths[0], **keywords)
        self.conv_out = FactorizedConv(widths[0], PIXEL_CHANNELS * config.patch_size**3, **keywords)
        self.unpatcher = Unpatcher(config.patch_size, dtype=dtype)

    def __call__(self, z: Latents) -> Float[Array, "B F Y X 3"]:
        return self.end(self.mid.temporal_attention(self.begin(z)))

    def begin(self, z: Latents, past: Past | None = None) -> Features:
        """Apply the layers before the temporal attention, which is that of `mid`."""
        past = past or Past()
        return self.mid.before(self.conv_in(self.from_latent(z), past).astype(self.dtype), past)

    def end(self, h: Features, past: Past | None = None) -> Float[Array, "B F Y X 3"]:
        """Apply the layers behind the temporal attention."""
        past = past or Past()
        h = self.mid.behind(h, past)
        for i in reversed(range(self.num_levels)):
            h = getattr(self, f"up_{i}")(h, past)
        return self.unpatcher(self.conv_out(jax.nn.silu(self.norm_out(h)), past), past.begins)
