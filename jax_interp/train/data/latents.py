"""The encoding of windows of video to the clean latents that a network is trained on."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from jax_interp.diffusion.sample import to_model_scale
from jax_interp.media.resize import normalize_and_resize
from jax_interp.models.video_tokenizer.model import VideoTokenizer
from jax_interp.types import Latents

Preparation = Literal["inference", "upstream"]
"""The preparation of pixels, as `train.settings.DataSettings` describes it."""


def prepare_pixels(
    frames: UInt8[Array | np.ndarray, "*F Y X 3"], height: int, width: int, preparation: Preparation
) -> Float[Array, "*F {height} {width} 3"]:
    """Resize frames and scale them to the range that the tokenizer reads, float32."""
    if preparation == "inference":
        return normalize_and_resize(frames, height, width).astype(jnp.float32)
    return upstream_resize(frames, height, width).astype(jnp.float32) / 127.5 - 1


@partial(jax.jit, static_argnames=("height", "width"))
def upstream_resize(
    frames: UInt8[Array | np.ndarray, "*F Y X 3"], height: int, width: int
) -> UInt8[Array, "*F {height} {width} 3"]:
    """Resize as upstream does: bilinear, antialiased when shrinking, to any aspect ratio; levels are truncated."""
    if frames.shape[-3:-1] == (height, width):
        return jnp.asarray(frames)
    unit = jnp.asarray(frames, jnp.float32) / 255
    resized = jax.image.resize(unit, (*frames.shape[:-3], height, width, 3), "linear", antialias=True)
    return (resized * 255).astype(jnp.uint8)


def clip_latents(tokenizer: VideoTokenizer, pixels: Float[Array, "B F Y X 3"]) -> Latents:
    """Encode a clip of 1 + 8n frames to latents on the model's scale, in the dtype of `pixels`."""
    return to_model_scale(tokenizer.encode_normalized(pixels))


def interpolation_latents(
    tokenizer: VideoTokenizer, pixels: Float[Array, "B F Y X 3"], preparation: Preparation
) -> Latents:
    """Encode 8n + 2 frames to latents: all but the last as a clip, the last by itself, as in generation.

    parity: upstream encodes a second clip that begins with the last frame and keeps its first latent, which knows that
    frame alone; so it is normalised as the first frame of a clip instead of as a picture.
    """
    clip, last = clip_latents(tokenizer, pixels[:, :-1]), pixels[:, -1:]
    if preparation == "inference":
        picture = clip_latents(tokenizer, last)
    else:
        mean, std = (row[:1] for row in tokenizer.stats.of(2))
        picture = to_model_scale((tokenizer.encode(last).astype(last.dtype) - mean) / std)
    return jnp.concatenate([clip, picture.astype(clip.dtype)], axis=1)
