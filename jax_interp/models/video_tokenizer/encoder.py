"""The encoder, from pixels to latents."""

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jax_interp.config import VideoTokenizerConfig
from jax_interp.models.video_tokenizer.attention import MiddleBlock
from jax_interp.models.video_tokenizer.layers import FactorizedConv, Features, FrameNorm, Past, PointwiseConv
from jax_interp.models.video_tokenizer.levels import Downsample, Level
from jax_interp.models.video_tokenizer.wavelet import Patcher
from jax_interp.types import Latents

PIXEL_CHANNELS = 3


class Encoder(nnx.Module):
    """The encoder: wavelets, then levels of growing width and falling resolution, then the middle block."""

    def __init__(self, config: VideoTokenizerConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        keywords = {"dtype": dtype, "rngs": rngs}
        widths = [config.channels * multiplier for multiplier in (1, *config.channel_multipliers)]
        self.dtype = dtype
        self.num_levels = len(config.channel_multipliers)
        self.patcher = Patcher(config.patch_size, dtype=dtype)
        self.conv_in = FactorizedConv(PIXEL_CHANNELS * config.patch_size**3, widths[0], **keywords)
        for i in range(self.num_levels):
            resample = Downsample if i in config.resampled_encoder_levels else None
            level = Level(widths[i], widths[i + 1], config.num_res_blocks, resample, **keywords)
            setattr(self, f"down_{i}", level)
        self.mid = MiddleBlock(widths[-1], **keywords)
        self.norm_out = FrameNorm(widths[-1], **keywords)
        self.conv_out = FactorizedConv(widths[-1], config.latent_channels, **keywords)
        self.to_latent = PointwiseConv(config.latent_channels, config.latent_channels, **keywords)

    def __call__(self, x: Float[Array, "B F Y X 3"]) -> Latents:
        return self.end(self.mid.temporal_attention(self.begin(x)))

    def begin(self, x: Float[Array, "B F Y X 3"], past: Past | None = None) -> Features:
        """Apply the layers before the temporal attention, which is that of `mid`."""
        past = past or Past()
        h = self.conv_in(self.patcher(x, past.begins), past).astype(self.dtype)
        for i in range(self.num_levels):
            h = getattr(self, f"down_{i}")(h, past)
        return self.mid.before(h, past)

    def end(self, h: Features, past: Past | None = None) -> Latents:
        """Apply the layers behind the temporal attention."""
        past = past or Past()
        return self.to_latent(self.conv_out(jax.nn.silu(self.norm_out(self.mid.behind(h, past))), past))
