"""A decoder-only language model: Mistral-Nemo, Llama 2 and Llama 3.1 by configuration.

It computes in the dtype of its parameters; norms, rotary embedding, scores and softmax are float32 inside and round
once. Prompts of a batch are padded on the right, which needs no mask: a token attends only to those before it, and as
a row goes on its tokens replace its padding in the cache, beyond which nothing is attended to. With `quantization` the
weights of the blocks are kept in 8 bits, and products are computed as without.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from jax_interp.config import DecoderConfig, Quantization
from jax_interp.nn.attention import attention
from jax_interp.nn.collectives import ONE_DEVICE, Collectives
from jax_interp.nn.gated_mlp import SwiGLU
from jax_interp.nn.linear import plain_linear, weight_only_linear
from jax_interp.nn.norms import RMSNorm
from jax_interp.nn.rotary import apply_rotary, make_rotation
from jax_interp.types import Text

Logits = Float[Array, "B V"]


class Cache(NamedTuple):
    """The KV cache: keys (rotated by their positions) and values of the tokens so far, with room for `M` tokens.

    The blocks' caches are stacked like the blocks: `[layers, B, M, G, K]` with `G` key-value heads.
    """

    key: Float[Array, "*layers B M G K"]
    value: Float[Array, "*layers B M G K"]


class DecoderBlockInputs(NamedTuple):
    """The inputs of every block beside the residual stream."""

    positions: Int[Array, " B"] | None
    """The position of each row's single token; None where the rows are prompts from position 0 on."""
    rotation: Float[Array, "2 *B S half_K"]
    """The rotation of the tokens (`nn.rotary.make_rotation`)."""


class DecoderAttention(nnx.Module):
    """Grouped-query attention: causal self-attention in which several query heads share a head of keys and values."""

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs, quantization: Quantization = "none"):
        linear = partial(weight_only_linear, dtype=dtype, rngs=rngs, quantization=quantization)
        inner, shared = config.num_heads * config.head_width, config.num_kv_heads * config.head_width
        self.head_width = config.head_width
        self.query = linear(config.width, inner)
        self.key = linear(config.width, shared)
        self.value = linear(config.width, shared)
        self.out = linear(inner, config.width)

    def __call__(self, x: Text, cache: Cache, inputs: DecoderBlockInputs) -> tuple[Text, Cache]:
        q, k, v = (
            linear(x).reshape(*x.shape[:-1], -1, self.head_width) for linear in (self.query, self.key, self.value)
        )
        q, k = apply_rotary(q, inputs.rotation), apply_rotary(k, inputs.rotation)
        if inputs.positions is None:
            cache = Cache(*(old.at[:, : x.shape[1]].set(new) for old, new in zip(cache, (k, v), strict=True)))
            k, v = (jnp.repeat(shared, q.shape[2] // k.shape[2], axis=2) for shared in (k, v))
            mixed = attention(q, k, v, causal=True)
        else:
            place = jnp.arange(len(x)), inputs.positions
            cache = Cache(*(old.at[place].set(new[:, 0]) for old, new in zip(cache, (k, v), strict=True)))
            mixed = attend_cached(q, cache, inputs.positions)
        return self.out(mixed.reshape(*x.shape[:-1], -1)), cache


def attend_cached(q: Float[Array, "B 1 N K"], cache: Cache, positions: Int[Array, " B"]) -> Float[Array, "B 1 N K"]:
    """Apply attention of one token a row to the tokens in one block's `cache` up to its position."""
    batch, _, _, width = q.shape
    size, num_shared = cache.key.shape[1:3]
    grouped = q.reshape(batch, num_shared, -1, width)
    scores = jnp.einsum("bgrk,bmgk->bgrm", grouped, cache.key, preferred_element_type=jnp.float32) * width**-0.5
    visible = jnp.arange(size) <= positions[:, None]
    weights = jax.nn.softmax(jnp.where(visible[:, None, None], scores, -jnp.inf), axis=-1).astype(q.dtype)
    return jnp.einsum("bgrm,bmgk->bgrk", weights, cache.value).reshape(q.shape)


class DecoderBlock(nnx.Module):
    """A pre-norm transformer block: `attend`, then `transform`. Each needs only the parameters of its entry of `PARTS`.

    With `collectives` the heads (of the cache too) and hidden units are those of one device.
    """

    PARTS = (("attention_norm", "attention"), ("mlp_norm", "mlp"))

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs, quantization: Quantization = "none"):
        norm = partial(RMSNorm, config.width, dtype=dtype, rngs=rngs, epsilon=config.norm_epsilon)
        self.attention_norm = norm()
        self.attention = DecoderAttention(config, dtype=dtype, rngs=rngs, quantization=quantization)
        self.mlp_norm = norm()
        self.mlp = SwiGLU(config.width, config.mlp_width, dtype=dtype, rngs=rngs, quantization=quantization)

    def __call__(self, x: Text, cache: Cache, inputs: DecoderBlockInputs) -> tuple[Text, Cache]:
        x, cache = self.attend(x, cache, inputs)
        return self.transform(x), cache

    def attend(
        self, x: Text, cache: Cache, inputs: DecoderBlockInputs, collectives: Collectives = ONE_DEVICE
    ) -> tuple[Text, Cache]:
        """Apply self-attention and its residual; the returned cache has the keys and values of `x` in it."""
        attended, cache = self.attention(self.attention_norm(x), cache, inputs)
        return x + collectives.all_reduce(attended), cache

    def transform(self, x: Text, collectives: Collectives = ONE_DEVICE) -> Text:
        """Apply the MLP and its residual."""
        return x + collectives.all_reduce(self.mlp(self.mlp_norm(x)))


class DecoderLM(nnx.Module):
    """A decoder-only language model: token ids to logits of the next token.

    `prefill` reads whole prompts and `decode` one more token a row. Each runs `prompt_inputs` or `token_inputs`, then
    every block of the stack in order, then `finish`; a runtime that places blocks one by one calls these itself.
    """

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs, quantization: Quantization = "none"):
        self.config = config
        normal = nnx.initializers.normal(1.0)
        self.embedding = nnx.Param(normal(rngs.params(), (config.vocab_size, config.width), dtype))
        block = partial(DecoderBlock, config, dtype=dtype, quantization=quantization)
        make_blocks = nnx.vmap(lambda keys: block(rngs=keys), in_axes=0, out_axes=0)
        self.blocks = make_blocks(rngs.split(config.num_layers))
        self.final_norm = RMSNorm(config.width, dtype=dtype, rngs=rngs, epsilon=config.norm_epsilon)
        self.head = None if config.tied_head else plain_linear(config.width, config.vocab_size, dtype=dtype, rngs=rngs)

    def __call__(self, ids: Int[Array, "B S"]) -> Float[Array, "B S V"]:
        """Logits after every token of `ids`, without keeping a cache."""
        cache = empty_cache(self.config, *ids.shape, dtype=self.embedding.dtype)
        x, _ = self._run_blocks(self.embed(ids), cache, self.prompt_inputs(ids.shape[1]))
        return self.finish(x)

    def prefill(self, prompts: Text, lengths: Int[Array, " B"], cache: Cache) -> tuple[Logits, Cache]:
        """Return logits after the last token of each row's prompt, and the stacked cache with the prompts in it.

        `prompts` are embeddings: those that `embed` returns, or an image's in place of some. Row b has `lengths[b]`
        tokens (at least one) and padding on the right, whose content does not matter.
        """
        x, cache = self._run_blocks(prompts, cache, self.prompt_inputs(prompts.shape[1]))
        return self.finish(last_of(x, lengths))[:, 0], cache

    def decode(self, ids: Int[Array, " B"], positions: Int[Array, " B"], cache: Cache) -> tuple[Logits, Cache]:
        """Return logits after token `ids[b]` of row b at `positions[b]`, and the stacked cache with it.

        The cache must hold the row's tokens at every position before. A token beyond its size is lost silently:
        `decoder_generate.generate_tokens` checks the sizes first.
        """
        x, cache = self._run_blocks(self.embed(ids[:, None]), cache, self.token_inputs(positions))
        return self.finish(x)[:, 0], cache

    def embed(self, ids: Int[Array, "B S"]) -> Text:
        """Embed token ids, which starts the residual stream; the caller refuses ids beyond the vocabulary."""
        return self.embedding[...][ids]

    def prompt_inputs(self, size: int) -> DecoderBlockInputs:
        """Return the blocks' inputs for rows that are prompts of `size` tokens from position 0 on."""
        return DecoderBlockInputs(None, self._rotation_at(jnp.arange(size)))

    def token_inputs(self, positions: Int[Array, " B"]) -> DecoderBlockInputs:
        """Return the blocks' inputs where row b is one token at `positions[b]`."""
        return DecoderBlockInputs(positions, self._rotation_at(positions[:, None]))

    def finish(self, x: Text) -> Float[Array, "B S V"]:
        """Turn the residual stream after the last block into float32 logits."""
        x = self.final_norm(x)
        if self.head is None:
            return jnp.einsum("bsd,vd->bsv", x, self.embedding[...], preferred_element_type=jnp.float32)
        return jnp.einsum("bsd,dv->bsv", x, self.head.kernel[...], preferred_element_type=jnp.float32)

    def _run_blocks(self, x: Text, cache: Cache, inputs: DecoderBlockInputs) -> tuple[Text, Cache]:
        structure, stacked = nnx.split(self.blocks)

        def run_block(x: Text, layer: tuple[Any, Cache]) -> tuple[Text, Cache]:
            block: DecoderBlock = nnx.merge(structure, layer[0])
            return block(x, layer[1], inputs)

        return jax.lax.scan(run_block, x, (stacked, cache))

    def _rotation_at(self, positions: Int[Array, "*B S"]) -> Float[Array, "2 *B S half_K"]:
        speeds = jnp.asarray(rotary_speeds(self.config), jnp.float32)
        return make_rotation(positions[..., None].astype(jnp.float32) * speeds)


def empty_cache(config: DecoderConfig, batch: int, size: int, *, dtype: DTypeLike) -> Cache:
    """Return an empty stacked cache with room for `size` tokens a row."""
    shape = (config.num_layers, batch, size, config.num_kv_heads, config.head_width)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def last_of(x: Text, lengths: Int[Array, " B"]) -> Float[Array, "B 1 E"]:
    """Return the last token of each row, the one at index `lengths[b] - 1`."""
    return jnp.take_along_axis(x, (lengths - 1)[:, None, None], axis=1)


def rotary_speeds(config: DecoderConfig) -> Float[np.ndarray, " half_K"]:
    """Return the rotary frequencies: radians by which components i and i + K/2 rotate for each position, float64.

    Source: Su et al. (2021), section 3.4; the scaling of low frequencies is Llama 3.1's.
    """
    speeds = config.rotary_base ** (-np.arange(0, config.head_width, 2) / config.head_width)
    slow, fast = config.rotary_stretched_turns
    turns = config.rotary_trained_length * speeds / (2 * np.pi)
    kept = np.clip((turns - slow) / (fast - slow), 0, 1)
    return speeds * (kept + (1 - kept) / config.rotary_stretch)
