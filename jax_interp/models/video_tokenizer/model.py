"""The whole video tokenizer: encoder, decoder and the statistics that normalise latents."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jax_interp.config import VideoTokenizerConfig
from jax_interp.errors import UsageError
from jax_interp.models.video_tokenizer.decoder import Decoder
from jax_interp.models.video_tokenizer.encoder import PIXEL_CHANNELS, Encoder
from jax_interp.types import Latents

Pixels = Float[Array, "*B F Y X rgb"]
"""[B, F, Y, X, 3]; `check_pixels` refuses others with a message."""


class Statistic(nnx.Variable):
    """A mean or deviation measured over training data, which is not trained."""


class Statistics(nnx.Module):
    """Mean and deviation of raw latents for each channel; for clips also for each latent frame."""

    def __init__(self, config: VideoTokenizerConfig, *, dtype: DTypeLike):
        table = (config.latent_channels, config.latent_chunk)
        self.video_mean = Statistic(jnp.zeros(table, dtype))
        self.video_std = Statistic(jnp.ones(table, dtype))
        self.image_mean = Statistic(jnp.zeros(table[:1], dtype))
        self.image_std = Statistic(jnp.ones(table[:1], dtype))

    def of(self, frames: int) -> tuple[Float[Array, "T 1 1 C"], Float[Array, "T 1 1 C"]]:
        """Return mean and deviation, float32, of `frames` latent frames: a picture's for one frame, else a clip's."""
        if frames > 1:
            return self.of_clip(frames)
        return _rows(self.image_mean[...][None]), _rows(self.image_std[...][None])

    def of_clip(self, frames: int) -> tuple[Float[Array, "T 1 1 C"], Float[Array, "T 1 1 C"]]:
        """Return mean and deviation, float32, of the first `frames` latent frames of a clip, also of a single one."""
        chunk = self.video_mean[...].shape[1]
        if frames > chunk:
            raise UsageError(f"a clip of {frames} latent frames has no statistics; this tokenizer has them for {chunk}")
        return _rows(self.video_mean[...][:, :frames].T), _rows(self.video_std[...][:, :frames].T)


def _rows(statistic: Float[Array, "T C"]) -> Float[Array, "T 1 1 C"]:
    return statistic[:, None, None].astype(jnp.float32)


class VideoTokenizer(nnx.Module):
    """A causal autoencoder of videos and pictures (Cosmos-Tokenize1 CV8x8x8); it multiplies in its parameters' dtype.

    Pixels are RGB in about [-1, 1]. A clip of 1 + 8n frames has 1 + n latent frames, at an eighth of its height and
    width; a picture is a clip of one frame.
    """

    def __init__(self, config: VideoTokenizerConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.config = config
        self.encoder = Encoder(config, dtype=dtype, rngs=rngs)
        self.decoder = Decoder(config, dtype=dtype, rngs=rngs)
        self.stats = Statistics(config, dtype=dtype)

    def encode(self, x: Pixels) -> Latents:
        """Encode pixels to raw latents, as the encoder makes them, in float32.

        Raises:
            UsageError: the number of frames, the height or the width does not fit the compression.
        """
        check_pixels(x.shape, self.config.compression)
        return self.encoder(x)

    def decode(self, z: Latents) -> Pixels:
        """Decode raw latents to pixels, in float32, not clipped to [-1, 1]."""
        return self.decoder(z)

    def encode_normalized(self, x: Pixels) -> Latents:
        """Encode pixels to latents of zero mean and unit deviation over the training data, in the dtype of `x`.

        One frame is normalised as a picture, more as a clip. Raises what `encode` raises, and `UsageError` for a clip
        longer than the statistics.
        """
        z = self.encode(x)
        # parity: upstream whitens in the dtype of the pixels, which are bfloat16 around a float32 network too.
        z, mean, std = (value.astype(x.dtype) for value in (z, *self.stats.of(z.shape[1])))
        return (z - mean) / std

    def decode_normalized(self, z: Latents) -> Pixels:
        """Decode what `encode_normalized` returns, in the dtype of `z`."""
        mean, std = self.stats.of(z.shape[1])
        return self.decode(z.astype(jnp.float32) * std + mean).astype(z.dtype)


def check_pixels(shape: tuple[int, ...], compression: int) -> None:
    """Raise `UsageError` naming everything about `shape` [B, F, Y, X, 3] that the tokenizer cannot take."""
    if len(shape) != 5 or shape[-1] != PIXEL_CHANNELS:
        raise UsageError(f"pixels of shape {shape}, expected [batch, frames, height, width, {PIXEL_CHANNELS}]")
    _, frames, height, width, _ = shape
    faults = []
    if frames % compression != 1:
        allowed = ", ".join(str(1 + compression * n) for n in range(4))
        faults.append(f"{frames} frames, allowed are {allowed}, ... (1 + {compression}n)")
    for name, size in (("height", height), ("width", width)):
        if size == 0 or size % compression:
            faults.append(f"{name} {size}, allowed are multiples of {compression}")
    if faults:
        raise UsageError("the tokenizer cannot encode this: " + "; ".join(faults))
