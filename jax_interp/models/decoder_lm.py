"""A decoder-only language model: Mistral-Nemo, Llama 2 and Llama 3.1 by configuration.

Computes in the dtype of its parameters; norms, rotary, scores and softmax are float32 inside and round once. Prompts of
a batch are padded on the right. No mask is needed for that: a token sees those before it alone, and as a row goes on
its tokens take the places of its padding in the cache, of which nothing beyond them is seen.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from jax_interp.config import DecoderConfig
from jax_interp.nn.attention import attention
from jax_interp.nn.exchange import NONE, Exchange
from jax_interp.nn.gated_mlp import SwiGLU
from jax_interp.nn.norms import RMSNorm
from jax_interp.nn.rotary import apply_rotary, rotation
from jax_interp.types import Text

Logits = Float[Array, "B V"]


class Cache(NamedTuple):
    """Keys (turned by their positions) and values of the tokens so far, in room for `M`.

    The blocks' caches are stacked like the blocks: `[layers, B, M, G, K]` with `G` heads.
    """

    key: Float[Array, "*layers B M G K"]
    value: Float[Array, "*layers B M G K"]


class BlockInputs(NamedTuple):
    """What every block reads beside the residual stream."""

    positions: Int[Array, " B"] | None
    """Where each row's one token stands; without, the rows are prompts from position 0 on."""
    turn: Float[Array, "2 *B S half_K"]
    """`nn.rotary.rotation` of the tokens' angles."""


class DecoderAttention(nnx.Module):
    """Causal self-attention in which several query heads share a head of keys and values."""

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        linear = partial(_linear, dtype=dtype, rngs=rngs)
        inner, shared = config.num_heads * config.head_width, config.num_kv_heads * config.head_width
        self.head_width = config.head_width
        self.query = linear(config.width, inner)
        self.key = linear(config.width, shared)
        self.value = linear(config.width, shared)
        self.out = linear(inner, config.width)

    def __call__(self, x: Text, cache: Cache, inputs: BlockInputs) -> tuple[Text, Cache]:
        q, k, v = (
            linear(x).reshape(*x.shape[:-1], -1, self.head_width) for linear in (self.query, self.key, self.value)
        )
        q, k = apply_rotary(q, inputs.turn), apply_rotary(k, inputs.turn)
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
    """Attention of one token a row to what one block's `cache` holds up to its position."""
    batch, _, _, width = q.shape
    size, num_shared = cache.key.shape[1:3]
    grouped = q.reshape(batch, num_shared, -1, width)
    scores = jnp.einsum("bgrk,bmgk->bgrm", grouped, cache.key, preferred_element_type=jnp.float32) * width**-0.5
    visible = jnp.arange(size) <= positions[:, None]
    weights = jax.nn.softmax(jnp.where(visible[:, None, None], scores, -jnp.inf), axis=-1).astype(q.dtype)
    return jnp.einsum("bgrm,bmgk->bgrk", weights, cache.value).reshape(q.shape)


class DecoderBlock(nnx.Module):
    """`attend`, then `transform`; each reads the normalised residual stream and adds to it, and needs the parameters
    of its entry of `PARTS` alone. With an `exchange` heads (the cache's too) and hidden units are those of one device.
    """

    PARTS = (("attention_norm", "attention"), ("mlp_norm", "mlp"))

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        norm = partial(RMSNorm, config.width, dtype=dtype, rngs=rngs, epsilon=config.norm_epsilon)
        self.attention_norm = norm()
        self.attention = DecoderAttention(config, dtype=dtype, rngs=rngs)
        self.mlp_norm = norm()
        self.mlp = SwiGLU(config.width, config.mlp_width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Text, cache: Cache, inputs: BlockInputs) -> tuple[Text, Cache]:
        x, cache = self.attend(x, cache, inputs)
        return self.transform(x), cache

    def attend(self, x: Text, cache: Cache, inputs: BlockInputs, exchange: Exchange = NONE) -> tuple[Text, Cache]:
        """Self-attention; the cache comes back with the keys and values of `x` in it."""
        attended, cache = self.attention(self.attention_norm(x), cache, inputs)
        return x + exchange.add(attended), cache

    def transform(self, x: Text, exchange: Exchange = NONE) -> Text:
        """The MLP."""
        return x + exchange.add(self.mlp(self.mlp_norm(x)))


class DecoderLM(nnx.Module):
    """Logits of the next token.

    `prefill` reads whole prompts and `decode` one more token a row. Either is `prompt_inputs` or `token_inputs`, every
    block of the stack in turn, `finish`; a runtime that places the blocks one by one calls these itself.
    """

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.config = config
        normal = nnx.initializers.normal(1.0)
        self.embedding = nnx.Param(normal(rngs.params(), (config.vocab_size, config.width), dtype))
        make_block = nnx.vmap(lambda keys: DecoderBlock(config, dtype=dtype, rngs=keys), in_axes=0, out_axes=0)
        self.blocks = make_block(rngs.split(config.num_layers))
        self.final_norm = RMSNorm(config.width, dtype=dtype, rngs=rngs, epsilon=config.norm_epsilon)
        self.head = None if config.tied_head else _linear(config.width, config.vocab_size, dtype=dtype, rngs=rngs)

    def __call__(self, ids: Int[Array, "B S"]) -> Float[Array, "B S V"]:
        """Logits after every token of `ids`, without keeping a cache."""
        cache = empty_cache(self.config, *ids.shape, dtype=self.embedding.dtype)
        x, _ = self._run_blocks(self.embed(ids), cache, self.prompt_inputs(ids.shape[1]))
        return self.finish(x)

    def prefill(self, prompts: Text, lengths: Int[Array, " B"], cache: Cache) -> tuple[Logits, Cache]:
        """Logits after the last token of each row's prompt, and the stacked cache with the prompts in it.

        `prompts` are embeddings: those that `embed` gives, or an image's in the place of some. Row b has `lengths[b]`
        tokens (at least one) and padding on the right, whose content does not matter.
        """
        x, cache = self._run_blocks(prompts, cache, self.prompt_inputs(prompts.shape[1]))
        return self.finish(last_of(x, lengths))[:, 0], cache

    def decode(self, ids: Int[Array, " B"], positions: Int[Array, " B"], cache: Cache) -> tuple[Logits, Cache]:
        """Logits after token `ids[b]` of row b at `positions[b]`, and the stacked cache with it.

        The cache must hold the row's tokens at every position before. What does not fit into it is lost without a
        word: `decoder_generate.generate` looks at the sizes first.
        """
        x, cache = self._run_blocks(self.embed(ids[:, None]), cache, self.token_inputs(positions))
        return self.finish(x)[:, 0], cache

    def embed(self, ids: Int[Array, "B S"]) -> Text:
        """The residual stream's start. Ids beyond the vocabulary are the caller's to refuse."""
        return self.embedding[...][ids]

    def prompt_inputs(self, size: int) -> BlockInputs:
        """What the blocks read when rows are prompts of `size` tokens from position 0 on."""
        return BlockInputs(None, self._turn(jnp.arange(size)))

    def token_inputs(self, positions: Int[Array, " B"]) -> BlockInputs:
        """What the blocks read when row b is one token at `positions[b]`."""
        return BlockInputs(positions, self._turn(positions[:, None]))

    def finish(self, x: Text) -> Float[Array, "B S V"]:
        """The residual stream after the last block to float32 logits."""
        x = self.final_norm(x)
        if self.head is None:
            return jnp.einsum("bsd,vd->bsv", x, self.embedding[...], preferred_element_type=jnp.float32)
        return jnp.einsum("bsd,dv->bsv", x, self.head.kernel[...], preferred_element_type=jnp.float32)

    def _run_blocks(self, x: Text, cache: Cache, inputs: BlockInputs) -> tuple[Text, Cache]:
        structure, stacked = nnx.split(self.blocks)

        def run_block(x: Text, layer: tuple[Any, Cache]) -> tuple[Text, Cache]:
            block: DecoderBlock = nnx.merge(structure, layer[0])
            return block(x, layer[1], inputs)

        return jax.lax.scan(run_block, x, (stacked, cache))

    def _turn(self, positions: Int[Array, "*B S"]) -> Float[Array, "2 *B S half_K"]:
        speeds = jnp.asarray(rotary_speeds(self.config), jnp.float32)
        return rotation(positions[..., None].astype(jnp.float32) * speeds)


def empty_cache(config: DecoderConfig, batch: int, size: int, *, dtype: DTypeLike) -> Cache:
    """A stacked cache with room for `size` tokens a row."""
    shape = (config.num_layers, batch, size, config.num_kv_heads, config.head_width)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def last_of(x: Text, lengths: Int[Array, " B"]) -> Float[Array, "B 1 E"]:
    """Each row's token number `lengths[b]`, counted from one."""
    return jnp.take_along_axis(x, (lengths - 1)[:, None, None], axis=1)


def rotary_speeds(config: DecoderConfig) -> Float[np.ndarray, " half_K"]:
    """Radians a position that component i (with i + K/2) of a head turns by, float64.

    Source: Su et al. (2021), section 3.4; the stretch of slow components is Llama 3.1's.
    """
    speeds = config.rotary_base ** (-np.arange(0, config.head_width, 2) / config.head_width)
    slow, fast = config.rotary_stretched_turns
    turns = config.rotary_trained_length * speeds / (2 * np.pi)
    kept = np.clip((turns - slow) / (fast - slow), 0, 1)
    return speeds * (kept + (1 - kept) / config.rotary_stretch)


def _linear(inputs: int, outputs: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Linear:
    init = nnx.initializers.normal(inputs**-0.5)
    return nnx.Linear(inputs, outputs, use_bias=False, param_dtype=dtype, kernel_init=init, rngs=rngs)
