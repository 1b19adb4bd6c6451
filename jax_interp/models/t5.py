"""The encoder half of T5 (Raffel et al., 2020), which turns a prompt into what the diffusion transformer attends to.

It computes in the dtype of its parameters; norms, scores and softmax are float32 inside and round once. With
`quantization` all products of the blocks with weights are those of integers.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from jax_interp.config import Quantization, T5Config
from jax_interp.nn.collectives import ONE_DEVICE, Collectives
from jax_interp.nn.norms import RMSNorm
from jax_interp.nn.quantization import QuantizedLinear, Reduce, rotation_group
from jax_interp.nn.quantized_ops import TOKEN_OPS
from jax_interp.types import Text

Bias = Float[Array, "B N S S"]
"""The bias that is added to attention scores: learned relative positions, and a huge negative number on padding."""


class T5Attention(nnx.Module):
    """Multi-head self-attention whose scores are not divided by √K, which T5's initialisation compensates.

    Quantised, queries, keys and values are one product.
    """

    def __init__(self, config: T5Config, *, dtype: DTypeLike, rngs: nnx.Rngs, quantization: Quantization = "none"):
        inner = config.num_heads * config.head_width
        linear = _linears(quantization, dtype, rngs)
        self.head_width = config.head_width
        self.quantization: Quantization = quantization
        self.group = rotation_group(quantization, inner, config.num_heads)
        if quantization == "none":
            self.query = linear(config.width, inner, (config.width * config.head_width) ** -0.5)
            self.key = linear(config.width, inner, config.width**-0.5)
            self.value = linear(config.width, inner, config.width**-0.5)
        else:
            group = rotation_group(quantization, config.width)
            self.qkv = QuantizedLinear(config.width, inner, 3, dtype=dtype, rngs=rngs, group=group)
        self.out = linear(inner, config.width, inner**-0.5)

    def __call__(self, x: Text, bias: Bias, across: Reduce | None = None) -> Text:
        q, k, v = (projected.reshape(*x.shape[:-1], -1, self.head_width) for projected in self._project(x))
        scores = jnp.einsum("bqnk,bsnk->bnqs", q, k, preferred_element_type=jnp.float32) + bias
        weights = jax.nn.softmax(scores, axis=-1).astype(x.dtype)
        mixed = jnp.einsum("bnqs,bsnk->bqnk", weights, v).reshape(*x.shape[:-1], -1)
        return self.out(TOKEN_OPS[self.quantization].tokens(mixed, across, self.group))

    def _project(self, x: Text) -> Iterator[Text]:
        """Yield queries, keys and values, with all heads in the last axis."""
        if self.quantization == "none":
            yield from (linear(x) for linear in (self.query, self.key, self.value))
        else:
            yield from self.qkv(x)


class T5MLP(nnx.Module):
    """An MLP: linear, ReLU, linear."""

    def __init__(self, config: T5Config, *, dtype: DTypeLike, rngs: nnx.Rngs, quantization: Quantization = "none"):
        linear = _linears(quantization, dtype, rngs)
        self.quantization: Quantization = quantization
        self.group = rotation_group(quantization, config.mlp_width, config.num_heads)
        self.up = linear(config.width, config.mlp_width, config.width**-0.5)
        self.down = linear(config.mlp_width, config.width, config.mlp_width**-0.5)

    def __call__(self, x: Text, across: Reduce | None = None) -> Text:
        return self.down(TOKEN_OPS[self.quantization].tokens(jax.nn.relu(self.up(x)), across, self.group))


class T5Block(nnx.Module):
    """A pre-norm transformer block: `attend`, then `transform`. Each needs only the parameters of its entry of `PARTS`.

    With `collectives` the heads and hidden units are those of one device.
    """

    PARTS = (("attention_norm", "attention"), ("mlp_norm", "mlp"))

    def __init__(self, config: T5Config, *, dtype: DTypeLike, rngs: nnx.Rngs, quantization: Quantization = "none"):
        self.attention_norm = RMSNorm(config.width, dtype=dtype, rngs=rngs)
        self.attention = T5Attention(config, dtype=dtype, rngs=rngs, quantization=quantization)
        self.mlp_norm = RMSNorm(config.width, dtype=dtype, rngs=rngs)
        self.mlp = T5MLP(config, dtype=dtype, rngs=rngs, quantization=quantization)

    def __call__(self, x: Text, bias: Bias) -> Text:
        return self.transform(self.attend(x, bias))

    def attend(self, x: Text, bias: Bias, collectives: Collectives = ONE_DEVICE) -> Text:
        """Apply self-attention and its residual."""
        attended = self.attention(self.attention_norm(x), bias, collectives.all_reduce_max)
        return x + collectives.all_reduce(attended)

    def transform(self, x: Text, collectives: Collectives = ONE_DEVICE) -> Text:
        """Apply the MLP and its residual."""
        return x + collectives.all_reduce(self.mlp(self.mlp_norm(x), collectives.all_reduce_max))


class T5Encoder(nnx.Module):
    """The encoder of T5: token ids to one vector for each token.

    A forward pass runs `embed`, every block of the stack in order, and `finish`; a runtime that places the blocks one
    by one calls these itself.
    """

    def __init__(self, config: T5Config, *, dtype: DTypeLike, rngs: nnx.Rngs, quantization: Quantization = "none"):
        self.config = config
        normal = nnx.initializers.normal
        self.embedding = nnx.Param(normal(1.0)(rngs.params(), (config.vocab_size, config.width), dtype))
        self.relative_bias = nnx.Param(
            normal(config.width**-0.5)(rngs.params(), (config.num_buckets, config.num_heads), dtype)
        )
        block = partial(T5Block, config, dtype=dtype, quantization=quantization)
        make_blocks = nnx.vmap(lambda keys: block(rngs=keys), in_axes=0, out_axes=0)
        self.blocks = make_blocks(rngs.split(config.num_layers))
        self.final_norm = RMSNorm(config.width, dtype=dtype, rngs=rngs)

    def __call__(self, ids: Int[Array, "B S"], mask: Int[Array, "B S"]) -> Text:
        """Encode `ids`; those where `mask` is 0 are padding that no token attends to.

        Vectors of padding are finite and have no meaning. The caller refuses ids beyond the vocabulary.
        """
        x, bias = self.embed(ids, mask)
        structure, stacked = nnx.split(self.blocks)

        def run_block(x: Text, block_params: Any) -> tuple[Text, None]:
            block: T5Block = nnx.merge(structure, block_params)
            return block(x, bias), None

        x, _ = jax.lax.scan(run_block, x, stacked)
        return self.finish(x)

    def embed(self, ids: Int[Array, "B S"], mask: Int[Array, "B S"]) -> tuple[Text, Bias]:
        """Start the residual stream, and return it with the float32 bias that all blocks share."""
        table = self.relative_bias[...].astype(jnp.float32)
        length = ids.shape[-1]
        by_offset = table[self._buckets(length)]
        offsets = jnp.arange(length)[None, :] - jnp.arange(length)[:, None]
        positions = by_offset[offsets + length - 1].transpose(2, 0, 1)
        visible = (mask != 0)[:, None, None, :]
        return self.embedding[...][ids], jnp.where(visible, positions, jnp.finfo(jnp.float32).min)

    def finish(self, x: Text) -> Text:
        """Turn the residual stream after the last block into the encoder's output."""
        return self.final_norm(x)

    def _buckets(self, length: int) -> np.ndarray:
        offsets = np.arange(1 - length, length)
        return relative_buckets(offsets, num_buckets=self.config.num_buckets, max_distance=self.config.max_distance)


def relative_buckets(offsets: np.ndarray, *, num_buckets: int, max_distance: int) -> np.ndarray:
    """Return the bucket of each relative position, `key position - query position`.

    Half of the buckets are for keys behind the query. Of each half, one half holds single distances and the other ever
    wider ranges, spaced evenly in the logarithm; distances from `max_distance` on share the last bucket.
    Source: Raffel et al. (2020), section 2.1.
    """
    per_side = num_buckets // 2
    exact = per_side // 2
    distance = np.abs(offsets)
    # parity: float32, as upstream: a distance on the border of two ranges goes where rounding puts it.
    octaves = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    steps = octaves / np.float32(np.log(max_distance / exact)) * np.float32(per_side - exact)
    wide = np.minimum(exact + steps.astype(np.int32), per_side - 1)
    return np.where(distance < exact, distance, wide) + np.where(offsets > 0, per_side, 0)


def _linears(quantization: Quantization, dtype: DTypeLike, rngs: nnx.Rngs) -> Callable[[int, int, float], nnx.Module]:
    """Return a function that makes a layer of (inputs, outputs, deviation of its initial weights)."""

    def plain(inputs: int, outputs: int, deviation: float) -> nnx.Module:
        init = nnx.initializers.normal(deviation)
        return nnx.Linear(inputs, outputs, use_bias=False, param_dtype=dtype, kernel_init=init, rngs=rngs)

    def quantized(inputs: int, outputs: int, deviation: float) -> nnx.Module:
        del deviation  # of random integers
        # For `up` alone: what `out` and `down` get is in 8 bits, in groups that no mesh cuts.
        group = rotation_group(quantization, inputs)
        return QuantizedLinear(inputs, outputs, dtype=dtype, rngs=rngs, group=group)

    return plain if quantization == "none" else quantized
