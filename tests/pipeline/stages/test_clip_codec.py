"""A clip in pieces over time is the clip at once, to the bit on the CPU, in memory that does not grow with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.diffusion.sample import from_model_scale
from jax_interp.media.resize import to_uint8
from jax_interp.models.video_tokenizer.layers import Past
from jax_interp.pipeline.stages import clip_codec
from jax_interp.pipeline.stages.clip_codec import ClipCodec
from tests import golden

SIZE = 128
"""Height and width in pixels: frames of 256 latent cells. Of frames with fewer XLA's CPU code sums in another order."""


@pytest.fixture(scope="module")
def codec(worlds):
    return worlds["float32"].codec


@pytest.fixture(scope="module")
def sampled():
    """Latents of 33 frames: those of the golden run, repeated to the size."""
    run = golden.load("L5_float32_E_g7_n6", golden.VIDEO2WORLD)
    latents = golden.channels_last(run["sample"])[0]
    return jnp.asarray(np.tile(latents, (1, 3, 2, 1))[:, :16, :16])


@pytest.fixture(scope="module")
def filmed():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (33, SIZE, SIZE, 3), np.uint8)


def decode(codec, latents, piece):
    return np.concatenate(list(ClipCodec(codec).decode(latents, piece=piece)))


@pytest.fixture(scope="module")
def at_once(codec, sampled):
    """The network on the whole clip, in one program that knows nothing of pieces."""

    def whole(params, latents):
        return to_uint8(codec.network.bind(params).decode_normalized(from_model_scale(latents)[None])[0])

    with codec.numerics():
        return np.asarray(codec.jit(whole)(codec.params, sampled))


@pytest.mark.slow
@pytest.mark.parametrize("piece", [2, None, 5])
def test_decoding_in_pieces_is_decoding_at_once(codec, sampled, at_once, piece):
    """Pieces of 2, of 4 (the default at this size) with the last one filled up, and a single one."""
    assert np.array_equal(decode(codec, sampled, piece), at_once)


@pytest.mark.slow
def test_encoding_in_pieces_is_encoding_at_once(codec, filmed):
    clips = ClipCodec(codec)
    whole, parts = (np.asarray(clips.encode(filmed, SIZE, SIZE, piece=piece)) for piece in (5, None))
    assert np.array_equal(parts, whole)


@pytest.mark.slow
def test_keys_and_values_pass_in_tiles(codec, sampled, monkeypatch):
    few = sampled[:3, :6, :8]
    whole = decode(codec, few, 1)
    monkeypatch.setattr(clip_codec, "TILE_CELLS", 3 * 8 * 2)  # two rows of eight cells in three frames
    assert np.array_equal(decode(codec, few, 1), whole)


@pytest.mark.slow
def test_what_is_kept_counts(codec, sampled):
    """Pieces that know nothing of each other are other frames."""
    few = sampled[:3, :6, :8]
    tokenizer = codec.network.bind(codec.params)
    first, second = Past(), Past()
    tokenizer.decoder.begin(few[None, :1], first)
    apart = tokenizer.decoder.begin(few[None, 1:], second)
    together = tokenizer.decoder.begin(few[None, 1:], Past(first.kept))
    assert not np.array_equal(apart, together)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip(codec, sampled):
    """The programs of a piece are those of any clip but for the attention, whose tiles shrink as the clip grows."""
    clips = ClipCodec(codec)
    peaks = [_peak(clips, sampled, num_frames) for num_frames in (33, 257)]
    assert peaks[1] <= 1.05 * peaks[0]


def _peak(clips, latents, num_frames):
    """The bytes of the largest program of decoding, arguments and results included, as XLA states them."""
    total, piece = (num_frames - 1) // 8 + 1, 1
    params = clips.codec.params
    z = latents[None, :piece]
    begun = clips._decoder.begin(params, z, None)
    sizes = [_bytes(clips._decoder.begin, params, z, kept) for kept in (None, begun.kept)]
    sizes.append(_bytes(clips._decoder.end, params, begun.x, begun.projected[0], None))
    _, behind = clips._decoder.end(params, begun.x, begun.projected[0], None)
    sizes.append(_bytes(clips._decoder.end, params, begun.x, begun.projected[0], behind))
    rows = min(16, max(1, clip_codec.TILE_CELLS // (total * 16)))
    keys = jax.ShapeDtypeStruct((1, total, rows, 16, begun.x.shape[-1]), jnp.float32)
    query = jax.ShapeDtypeStruct((1, piece, rows, 16, begun.x.shape[-1]), jnp.float32)
    sizes.append(_bytes(clips._attend, query, keys, keys, np.int32(0)))
    return max(sizes)


def _bytes(program, *arguments):
    found = program.lower(*arguments).compile().memory_analysis()
    return found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes
