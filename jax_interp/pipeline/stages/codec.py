"""The stage of the video tokenizer: it encodes pairs of frames to condition latents and decodes sampled latents."""

from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, UInt8

from jax_interp.config import Precision, VideoTokenizerConfig
from jax_interp.diffusion.sample import from_model_scale, to_model_scale
from jax_interp.media.resize import normalize_and_resize, to_uint8
from jax_interp.models.video_tokenizer.model import VideoTokenizer
from jax_interp.pipeline.stages.geometry import piece_size
from jax_interp.pipeline.stages.stage import MonolithicStage
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.mesh import REPLICATED, DeviceMesh
from jax_interp.types import Latents, Params

ROWS = P("data")
ENCODE_BYTES, DECODE_BYTES = 112, 140
"""Bytes of activations for one pixel of one frame of the clip, while encoding and while decoding."""
KEPT_BYTES = 1984
"""Bytes for one pixel of a frame that decoding in pieces carries from piece to piece, in float32: two frames of the
input of every convolution along time, counted from the network's shapes."""

FramePair = tuple[UInt8[np.ndarray, "Y X 3"], UInt8[np.ndarray, "Y X 3"]]
"""(first frame, last frame), RGB."""


class Codec(MonolithicStage[VideoTokenizer]):
    """The video tokenizer between uint8 frames and the latents that diffusion works on.

    On a mesh every device along `data` works on a pair of its own; the number of pairs changes none of their bits.
    """

    NETWORK = VideoTokenizer

    def __init__(self, converted: ConvertedComponent, precision: Precision, devices: DeviceMesh | None = None):
        super().__init__(converted, precision, devices)
        self._encode = self.jit(self._encode_rows, static_argnames="num_video_frames")
        self._decode = self.jit(self._decode_rows)

    @classmethod
    def activations(cls, config: VideoTokenizerConfig, size: int, workload: Workload) -> int:
        cell, pixels, widths = config.compression, workload.height * workload.width, config.channels / 128
        frames, kept = workload.num_video_frames - 1, 0.0
        if workload.in_pieces:
            frames = min(frames, cell * piece_size(workload.height // cell, workload.width // cell))
            kept = KEPT_BYTES * pixels * widths
        return int(max(ENCODE_BYTES, DECODE_BYTES) * frames * pixels * widths * size / 2 + kept)

    def encode_pair(
        self,
        first: UInt8[np.ndarray, "Y X 3"],
        last: UInt8[np.ndarray, "Y X 3"],
        height: int,
        width: int,
        num_video_frames: int,
    ) -> Float[Array, "T H W C"]:
        """Encode one pair; see `encode_pairs`."""
        return self.encode_pairs([(first, last)], height, width, num_video_frames)[0]

    def encode_pairs(
        self, pairs: Sequence[FramePair], height: int, width: int, num_video_frames: int
    ) -> Float[Array, "B T H W C"]:
        """Return the clean condition latents of pairs, as float32 arrays of bfloat16 values.

        The first latent frame encodes the first frame and the last latent frame the last frame. Those between encode
        mid-gray and are replaced by the sampler.
        """
        encoded = []
        for group, count in self._groups(pairs):
            pixels = (self._pixels([pair[end] for pair in group], height, width) for end in (0, 1))
            with self.numerics():
                encoded.append(self._encode(self.params, *pixels, num_video_frames=num_video_frames)[:count])
        return jnp.concatenate(encoded)

    def decode(self, latents: Float[Array, "T H W C"]) -> UInt8[np.ndarray, "F Y X 3"]:
        """Return the frames of one pair's latents; the last latent frame decodes as a picture, the others as a clip."""
        return next(self.decode_pairs(latents[None]))

    def decode_pairs(self, latents: Float[Array, "B T H W C"]) -> Iterator[UInt8[np.ndarray, "F Y X 3"]]:
        """Yield the frames of every pair in order; the devices along `data` decode that many pairs at a time."""
        for group, count in self._groups(range(len(latents))):
            rows = self.devices.put(latents[np.asarray(group)], ROWS)
            with self.numerics():
                frames = np.asarray(self._decode(self.params, rows))
            yield from frames[:count]

    def _groups(self, items: Sequence[Any]) -> Iterator[tuple[list[Any], int]]:
        """Yield groups of `items`, one item for each device along `data`, and how many of a group are no padding."""
        size = self.devices.shape.data
        for start in range(0, len(items), size):
            group = list(items[start : start + size])
            yield group + [group[-1]] * (size - len(group)), len(group)

    def _pixels(self, frames: Sequence[np.ndarray], height: int, width: int) -> Float[Array, "B Y X 3"]:
        """Return resized frames; each process computes only those of its own devices."""
        if self.devices.alone:
            return normalize_and_resize(frames[0], height, width)[None]
        resized = cache(lambda row: np.asarray(normalize_and_resize(frames[row], height, width)))
        return self.devices.local(
            (len(frames), height, width, 3),
            ROWS,
            lambda index: np.stack([resized(row) for row in range(*index[0].indices(len(frames)))]),
        )

    def _encode_rows(self, params: Params, first: Array, last: Array, *, num_video_frames: int) -> Array:
        def each(params: Params, first: Array, last: Array) -> Array:
            return self._encode_pair(params, first[0], last[0], num_video_frames=num_video_frames)[None]

        return self.constrain(
            self.on_each_device(each, (REPLICATED, ROWS, ROWS), ROWS)(params, first, last), REPLICATED
        )

    def _decode_rows(self, params: Params, latents: Array) -> Array:
        def each(params: Params, latents: Array) -> Array:
            return self._decode_pair(params, latents[0])[None]

        return self.constrain(self.on_each_device(each, (REPLICATED, ROWS), ROWS)(params, latents), REPLICATED)

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


def _decode_part(tokenizer: VideoTokenizer, latents: Latents) -> UInt8[Array, "F Y X 3"]:
    return to_uint8(tokenizer.decode_normalized(latents)[0])
