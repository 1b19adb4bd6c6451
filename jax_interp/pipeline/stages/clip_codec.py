"""The video tokenizer on whole clips, in pieces over time, so that the memory it takes does not grow with the clip.

No frame depends on a later one: a piece needs only the last frames before it, of every convolution along time, and the
keys and values of the temporal attention. The former stay on the device and are few; the latter wait in host memory and
pass through the device tile by tile. The result is that of the whole clip at once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from jax_interp.diffusion.sample import from_model_scale, to_model_scale
from jax_interp.media.resize import normalize_and_resize, to_uint8
from jax_interp.models.video_tokenizer.attention import attend_along_time
from jax_interp.models.video_tokenizer.layers import Features, Past
from jax_interp.models.video_tokenizer.model import VideoTokenizer
from jax_interp.pipeline.stages.codec import Codec
from jax_interp.pipeline.stages.geometry import piece_size
from jax_interp.runtime.mesh import REPLICATED
from jax_interp.types import Params

TILE_CELLS = 1 << 16
"""Latent cells of all frames together whose keys and values are on the device at a time."""

Kept = list[Features] | None
"""What `Past.kept` gave for the piece before; None before the first one."""


class Begun(NamedTuple):
    """A piece on its way through encoder or decoder, at the temporal attention."""

    x: Features
    projected: tuple[Features, Features, Features]
    """Queries, keys and values."""
    kept: list[Features]


Ended = tuple[Array, list[Features]]
"""What a piece became, and what the next one needs of it."""


class _Halves(NamedTuple):
    """The two compiled halves of encoder or decoder, before and behind the temporal attention."""

    begin: Callable[[Params, Array, Kept], Begun]
    end: Callable[[Params, Features, Features, Kept], Ended]


class ClipCodec:
    """The video tokenizer between the frames of one clip and the latents that diffusion works on.

    It runs the network of `codec`, which places and unloads it. On a mesh every device does the same work.
    """

    def __init__(self, codec: Codec):
        self.codec = codec
        donate = {"donate_argnames": "kept"}
        self._encoder = _Halves(codec.jit(self._begin_encoding, **donate), codec.jit(self._end_encoding, **donate))
        self._decoder = _Halves(codec.jit(self._begin_decoding, **donate), codec.jit(self._end_decoding, **donate))
        self._attend = codec.jit(self._attend_tile)
        self._normalize = codec.jit(self._normalized)
        self._denormalize = codec.jit(self._denormalized)

    def encode(
        self, frames: UInt8[np.ndarray, "F Y X 3"], height: int, width: int, *, piece: int | None = None
    ) -> Float[Array, "T H W C"]:
        """Return the latents of a clip of 8n + 1 frames, resized to `height`×`width`, as float32 arrays of bfloat16.

        A single frame is normalised as the first of a clip, not as a picture. `piece` is the number of latent frames
        that are computed at a time; by default as few as keep the device busy.
        """
        cell = self.codec.config.compression
        total = (len(frames) - 1) // cell + 1
        piece = min(piece or piece_size(height // cell, width // cell), total)
        pieces = (
            _filled_up(normalize_and_resize(part, height, width)[None], piece * cell - (0 if start else cell - 1))
            for start in range(0, total, piece)
            if len(part := frames[_first_frame(start, cell) : _first_frame(start + piece, cell)])
        )
        with self.codec.numerics():
            latents = list(self._run(self._encoder, pieces, piece, total))
            raw = jnp.concatenate(latents, axis=1)[:, :total]
            return self._normalize(self.codec.params, raw)[0]

    def decode(
        self, latents: Float[Array, "T H W C"], *, piece: int | None = None
    ) -> Iterator[UInt8[np.ndarray, "F Y X 3"]]:
        """Yield the frames of a clip's latents in order; the first piece begins with the frame that stands alone.

        `piece` is the number of latent frames that are computed at a time, as for `encode`.
        """
        total, rows, columns, _ = latents.shape
        piece = min(piece or piece_size(rows, columns), total)
        cell = self.codec.config.compression
        with self.codec.numerics():
            clean = self._denormalize(self.codec.params, self.codec.devices.put(latents))
        pieces = (_filled_up(clean[:, start : start + piece], piece) for start in range(0, total, piece))
        left = (total - 1) * cell + 1
        decoded = self._run(self._decoder, pieces, piece, total)
        while left:
            with self.codec.numerics():
                frames = np.asarray(next(decoded))[0, :left]
            left -= len(frames)
            yield frames

    def _run(self, halves: _Halves, pieces: Iterable[Array], piece: int, total: int) -> Iterator[Array]:
        """Yield what every one of `pieces` becomes; together they have at least `total` latent frames."""
        codec = self.codec
        memory = _Memory(self._attend, codec, total)
        before: Kept = None
        behind: Kept = None
        for index, each in enumerate(pieces):
            begun = halves.begin(codec.params, codec.devices.put(each), before)
            before = begun.kept
            attended = memory.attend(*begun.projected, index * piece)
            result, behind = halves.end(codec.params, begun.x, attended, behind)
            yield result

    # Traced by `jit`.

    def _begin_encoding(self, params: Params, pixels: Array, kept: Kept) -> Begun:
        return self._begun(self._tokenizer(params).encoder, pixels, kept)

    def _end_encoding(self, params: Params, x: Features, attended: Features, kept: Kept) -> Ended:
        return self._ended(self._tokenizer(params).encoder, x, attended, kept)

    def _begin_decoding(self, params: Params, latents: Array, kept: Kept) -> Begun:
        return self._begun(self._tokenizer(params).decoder, latents, kept)

    def _end_decoding(self, params: Params, x: Features, attended: Features, kept: Kept) -> Ended:
        pixels, kept = self._ended(self._tokenizer(params).decoder, x, attended, kept)
        return to_uint8(pixels), kept

    def _begun(self, coder: Any, x: Array, kept: Kept) -> Begun:
        past = Past(kept)
        x = coder.begin(x, past)
        return self.codec.constrain(Begun(x, coder.mid.temporal_attention.project(x), past.kept), REPLICATED)

    def _ended(self, coder: Any, x: Features, attended: Features, kept: Kept) -> Ended:
        past = Past(kept)
        result = coder.end(coder.mid.temporal_attention.add(x, attended), past)
        return self.codec.constrain((result, past.kept), REPLICATED)

    def _attend_tile(self, q: Features, k: Features, v: Features, start: Array) -> Features:
        # Queries of all frames, most of them zeros: the products then have the same shapes, and so the same bits, for
        # every piece, and cost little beside the convolutions.
        all_queries = jax.lax.dynamic_update_slice_in_dim(jnp.zeros_like(k), q, start, axis=1)
        return jax.lax.dynamic_slice_in_dim(attend_along_time(all_queries, k, v), start, q.shape[1], axis=1)

    def _normalized(self, params: Params, latents: Array) -> Array:
        # parity: a bfloat16 run rounds after every operation, and latents are bfloat16 in a float32 run too.
        dtype = self.codec.dtype
        mean, std = (value.astype(dtype) for value in self._tokenizer(params).stats.of_clip(latents.shape[1]))
        normal = to_model_scale((latents.astype(dtype) - mean) / std)
        return self.codec.constrain(normal.astype(jnp.bfloat16).astype(jnp.float32), REPLICATED)

    def _denormalized(self, params: Params, latents: Array) -> Array:
        mean, std = self._tokenizer(params).stats.of_clip(latents.shape[0])
        return self.codec.constrain((from_model_scale(latents.astype(jnp.float32)) * std + mean)[None], REPLICATED)

    def _tokenizer(self, params: Params) -> VideoTokenizer:
        return self.codec.network.bind(params)


class _Memory:
    """Keys and values of all frames of a clip so far, in host memory."""

    def __init__(self, attend: Callable[..., Features], codec: Codec, num_frames: int):
        self._attend = attend
        self._codec = codec
        self._num_frames = num_frames
        self._buffers: Sequence[np.ndarray] | None = None

    def attend(self, q: Features, k: Features, v: Features, start: int) -> Features:
        """Return what the queries of a piece, whose first frame is number `start`, get; keys and values are kept.

        Frames behind the clip's end, which fill up its last piece, get what the last one gets.
        """
        inside = slice(0, self._num_frames - start)
        filling, q, k, v = q.shape[1], q[:, inside], k[:, inside], v[:, inside]
        if self._buffers is None:
            shape = (k.shape[0], self._num_frames, *k.shape[2:])
            self._buffers = [np.zeros(shape, k.dtype) for _ in range(2)]
        for buffer, new in zip(self._buffers, (k, v), strict=True):
            buffer[:, start : start + new.shape[1]] = np.asarray(new)
        rows = max(1, TILE_CELLS // (self._num_frames * k.shape[3]))
        tiles = [slice(row, row + rows) for row in range(0, k.shape[2], rows)]
        return _filled_up(jnp.concatenate([self._attend_rows(q, start, tile) for tile in tiles], axis=2), filling)

    def _attend_rows(self, q: Features, start: int, rows: slice) -> Features:
        assert self._buffers is not None
        keys, values = (self._codec.devices.put(buffer[:, :, rows]) for buffer in self._buffers)
        return self._attend(q[:, :, rows], keys, values, np.int32(start))


def _first_frame(latent_frame: int, cell: int) -> int:
    """Return the number of the first frame of a latent frame: the first one is of a single frame."""
    return 1 + (latent_frame - 1) * cell if latent_frame else 0


def _filled_up(x: Array, count: int) -> Array:
    """Return `x` with its last frame repeated until there are `count`: every later piece has the same shape."""
    missing = count - x.shape[1]
    return jnp.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2), mode="edge") if missing else x
