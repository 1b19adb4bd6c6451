"""The tokenizer stage: pairs of frames to condition latents, sampled latents to frames."""

from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from jax_interp.diffusion.sample import from_model_scale, to_model_scale
from jax_interp.media.resize import normalize_and_resize, to_uint8
from jax_interp.models.tokenizer import Tokenizer
from jax_interp.pipeline.stage import WholeStage
from jax_interp.runtime.checkpoint import ConvertedComponent
from jax_interp.types import Latents, Params, Precision


class Codec(WholeStage[Tokenizer]):
    """The video tokenizer between uint8 frames and the latents that diffusion works on."""

    def __init__(self, found: ConvertedComponent, precision: Precision):
        super().__init__(found, Tokenizer, precision)
        self._encode = self.jit(self._encode_pair, static_argnames="num_video_frames")
        self._decode = self.jit(self._decode_pair)

    def encode_pair(
        self,
        first: UInt8[np.ndarray, "Y X 3"],
        last: UInt8[np.ndarray, "Y X 3"],
        height: int,
        width: int,
        num_video_frames: int,
    ) -> Float[Array, "T H W C"]:
        """Clean condition latents of a pair, float32 holding bfloat16 values.

        The first latent frame knows `first`, the last one is `last`; those between encode mid-gray and are replaced by
        the sampler.
        """
        pixels = (normalize_and_resize(frame, height, width) for frame in (first, last))
        with self.numerics():
            return self._encode(self.params, *pixels, num_video_frames=num_video_frames)

    def decode(self, latents: Float[Array, "T H W C"]) -> UInt8[Array, "F Y X 3"]:
        """Frames of one pair's latents: all but the last latent frame as a clip, the last one as a picture."""
        with self.numerics():
            return self._decode(self.params, latents)

    def _encode_pair(self, params: Params, first: Array, last: Array, *, num_video_frames: int) -> Array:
        tokenizer = self.network.bind(params)
        # parity: frames stay bfloat16 around a float32 tokenizer too, and latents are normalised in their dtype.
        first, last = (frame.reshape(1, 1, *frame.shape[-3:]) for frame in (first, last))
        unknown = jnp.zeros((1, num_video_frames - 2, *first.shape[2:]), first.dtype)
        clip = tokenizer.encode_normalized(jnp.concatenate([first, unknown], axis=1))
        picture = tokenizer.encode_normalized(last)
        return to_model_scale(jnp.concatenate([clip, picture], axis=1)[0]).astype(jnp.float32)

    def _decode_pair(self, params: Params, latents: Latents) -> Array:
        tokenizer = self.network.bind(params)
        normalized = from_model_scale(latents.astype(jnp.float32))[None]
        parts = map(partial(_decode_part, tokenizer), (normalized[:, :-1], normalized[:, -1:]))
        return jnp.concatenate(list(parts), axis=0)


def _decode_part(tokenizer: Tokenizer, latents: Latents) -> UInt8[Array, "F Y X 3"]:
    return to_uint8(tokenizer.decode_normalized(latents)[0])
