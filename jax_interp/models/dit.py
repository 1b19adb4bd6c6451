"""The diffusion transformer of Cosmos-Predict1 (upstream `VideoExtendGeneralDIT`), 7B and 14B by configuration.

It computes in the dtype of its parameters; norms, softmax, rotary embedding and GELU are float32 inside and round
once. With `quantization` the large products of the blocks are those of integers: queries, keys, values and output of
self-attention, queries and output of cross-attention, and the MLP. What is small or delicate stays as it is:
modulation, embeddings, the projections of patches, and the keys and values of the text.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jax_interp.config import DiTConfig, Quantization
from jax_interp.nn.attention import attention
from jax_interp.nn.collectives import ONE_DEVICE, Collectives
from jax_interp.nn.embeddings import AxisPositions, CellPositions, GridPositions, sinusoid
from jax_interp.nn.norms import RMSNorm
from jax_interp.nn.patches import patchify, unpatchify
from jax_interp.nn.quantization import QuantizedLinear, QuantizedTokens, Reduce, rotation_group
from jax_interp.nn.quantized_ops import TOKEN_OPS, modulate
from jax_interp.nn.rotary import make_rotation
from jax_interp.types import Latents, Text, Tokens

ALL = slice(None)


class DiTBlockInputs(NamedTuple):
    """The inputs of every block beside the residual stream."""

    embedding: Float[Array, "B D"]
    """The embedding of the noise level, after its activation."""
    adaln_lora: Float[Array, "B three_D"]
    positions: GridPositions | CellPositions
    rotation: Float[Array, "2 *B L half_K"]
    """The rotation of the tokens (`nn.rotary.make_rotation`)."""
    text: Text


class BiasFreeLinear(nnx.Linear):
    """A linear layer without bias, as all of this network's are."""

    def __init__(self, inputs: int, outputs: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        super().__init__(inputs, outputs, use_bias=False, dtype=dtype, param_dtype=dtype, rngs=rngs)


class Modulation(nnx.Module):
    """Adaptive layer norm: a low-rank map from the noise-level embedding to `parts` vectors of width D (AdaLN-LoRA)."""

    def __init__(self, config: DiTConfig, parts: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.parts = parts
        self.down = BiasFreeLinear(config.width, config.adaln_rank, dtype=dtype, rngs=rngs)
        self.up = BiasFreeLinear(config.adaln_rank, parts * config.width, dtype=dtype, rngs=rngs)

    def __call__(self, inputs: DiTBlockInputs) -> list[Float[Array, "B 1 D"]]:
        """Shift, scale and (with three parts) gate."""
        raw = self.up(self.down(inputs.embedding))
        return jnp.split((raw + inputs.adaln_lora[:, : raw.shape[-1]])[:, None], self.parts, axis=-1)


class DiTAttention(nnx.Module):
    """Multi-head attention with RMS-normalised queries and keys; keys and values come from `context`.

    With `rotation` queries and keys are rotated by their positions; `x` has the positions `rows` of the context's.
    `attend` is the attention function. Quantised self-attention is `joined`: its queries, keys and values are one
    product.
    """

    def __init__(
        self,
        config: DiTConfig,
        context_width: int,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
        quantization: Quantization = "none",
        joined: bool = False,
    ):
        linear = partial(BiasFreeLinear, dtype=dtype, rngs=rngs)
        large = linear if quantization == "none" else partial(QuantizedLinear, dtype=dtype, rngs=rngs)
        # What the input of `out` is divided by, the weight of the values has in it already.
        first: Any = partial(large, smoothed=True) if quantization == "int8-smoothed" else large
        inner = config.num_heads * config.head_width
        self.head_width = config.head_width
        self.quantization: Quantization = quantization
        self.group = rotation_group(quantization, inner, config.num_heads)
        self.joined = joined
        if joined:
            self.qkv = first(config.width, inner, 3)
        else:
            self.query = first(config.width, inner)
            self.key = linear(context_width, inner)
            self.value = linear(context_width, inner)
        self.out = large(inner, config.width)
        self.query_norm = RMSNorm(config.head_width, dtype=dtype, rngs=rngs)
        self.key_norm = RMSNorm(config.head_width, dtype=dtype, rngs=rngs)

    @property
    def input_factors(self) -> Float[Array, " D"] | None:
        """What the channels of `x` are multiplied by before they are quantised; None if by nothing."""
        return _input_factors(self.qkv if self.joined else self.query)

    def __call__(
        self,
        x: Tokens | QuantizedTokens,
        context: Float[Array, "B S context_D"] | QuantizedTokens,
        rotation: Float[Array, "2 *B S half_K"] | None = None,
        rows: slice = ALL,
        *,
        attend: Callable[[Array, Array, Array], Array] = attention,
        across: Reduce | None = None,
    ) -> Tokens:
        q, k, v = (
            projected.reshape(*projected.shape[:-1], -1, self.head_width)
            for projected in self._project(x, context, rows)
        )
        heads = TOKEN_OPS[self.quantization].heads
        q = heads(q, self.query_norm, None if rotation is None else rotation[..., rows, :])
        k = heads(k, self.key_norm, rotation)
        attended = attend(q, k, v).reshape(*x.shape[:-1], -1)
        return self.out(TOKEN_OPS[self.quantization].tokens(attended, across, self.group))

    def _project(self, x: Any, context: Any, rows: slice) -> tuple[Array, Array, Array]:
        """Return the queries of `x` and the keys and values of `context`, with all heads in the last axis."""
        if not self.joined:
            return self.query(x), self.key(context), self.value(context)
        q, k, v = self.qkv(context)
        return q[:, rows], k, v


class DiTMLP(nnx.Module):
    """An MLP: linear, exact GELU, linear."""

    def __init__(self, config: DiTConfig, *, dtype: DTypeLike, rngs: nnx.Rngs, quantization: Quantization = "none"):
        linear: Any = partial(BiasFreeLinear if quantization == "none" else QuantizedLinear, dtype=dtype, rngs=rngs)
        if quantization == "int8-smoothed":
            linear = partial(linear, smoothed=True)
        self.quantization: Quantization = quantization
        self.group = rotation_group(quantization, config.mlp_width, config.num_heads)
        self.up = linear(config.width, config.mlp_width)
        self.down = linear(config.mlp_width, config.width)

    @property
    def input_factors(self) -> Float[Array, " D"] | None:
        """What the channels of `x` are multiplied by before they are quantised; None if by nothing."""
        return _input_factors(self.up)

    def __call__(self, x: Tokens | QuantizedTokens, across: Reduce | None = None) -> Tokens:
        hidden = TOKEN_OPS[self.quantization].hidden(self.up, x, across, self.group, _input_factors(self.down))
        return self.down(hidden)


class DiTBlock(nnx.Module):
    """A transformer block: self-attention, cross-attention to the text and MLP, each modulated before and gated after.

    It runs `attend`, then `transform`; each needs only the parameters of its entry of `PARTS`. With `collectives` the
    tokens are those of one device, and so may be the heads and hidden units.
    """

    PARTS = (("self_attention", "self_modulation", "cross_attention", "cross_modulation"), ("mlp", "mlp_modulation"))

    def __init__(self, config: DiTConfig, *, dtype: DTypeLike, rngs: nnx.Rngs, quantization: Quantization = "none"):
        attention = partial(DiTAttention, config, dtype=dtype, rngs=rngs, quantization=quantization)
        self.quantization: Quantization = quantization
        self.group = rotation_group(quantization, config.width)
        self.self_attention = attention(config.width, joined=quantization != "none")
        self.self_modulation = Modulation(config, 3, dtype=dtype, rngs=rngs)
        self.cross_attention = attention(config.text_width)
        self.cross_modulation = Modulation(config, 3, dtype=dtype, rngs=rngs)
        self.mlp = DiTMLP(config, dtype=dtype, rngs=rngs, quantization=quantization)
        self.mlp_modulation = Modulation(config, 3, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens, inputs: DiTBlockInputs) -> Tokens:
        return self.transform(self.attend(x, inputs), inputs)

    def attend(
        self, x: Tokens, inputs: DiTBlockInputs, rows: slice = ALL, collectives: Collectives = ONE_DEVICE
    ) -> Float[Array, "B rows D"]:
        """Apply both attentions; with `rows` only those tokens are returned, which still attend to all tokens."""
        ops, across = TOKEN_OPS[self.quantization], collectives.all_reduce_max
        positions = inputs.positions.expand()
        modulation, factors = partial(self.self_modulation, inputs), self.self_attention.input_factors
        x, h, gate = ops.add_modulate(x, None, positions, modulation, self.group, factors)
        attended = self.self_attention(h[:, rows], h, inputs.rotation, rows, attend=collectives.attend, across=across)
        attended = collectives.all_reduce(attended)
        modulation, factors = partial(self.cross_modulation, inputs), self.cross_attention.input_factors
        x, h, gate = ops.add_modulate(x[:, rows], gate, attended, modulation, self.group, factors)
        attended = self.cross_attention(h, inputs.text, across=across)
        return x + gate * collectives.all_reduce(attended)

    def transform(self, x: Tokens, inputs: DiTBlockInputs, collectives: Collectives = ONE_DEVICE) -> Tokens:
        """Apply the MLP."""
        shift, scale, gate = self.mlp_modulation(inputs)
        h = TOKEN_OPS[self.quantization].modulate(x, shift, scale, self.group, self.mlp.input_factors)
        return x + gate * collectives.all_reduce(self.mlp(h, collectives.all_reduce_max))


class DiT(nnx.Module):
    """The diffusion transformer, which predicts the preconditioned network output for noisy latents.

    A forward pass runs `embed`, every block of the stack in order, and `project`; a runtime that places the blocks one
    by one calls these itself.
    """

    def __init__(self, config: DiTConfig, *, dtype: DTypeLike, rngs: nnx.Rngs, quantization: Quantization = "none"):
        linear = partial(BiasFreeLinear, dtype=dtype, rngs=rngs)
        patch_area = config.patch_size**2
        self.config = config
        self.patch_embedding = linear(config.input_channels * patch_area, config.width)
        self.positions = AxisPositions(config.grid, config.width, dtype=dtype, rngs=rngs)
        self.time_in = linear(config.width, config.width)
        self.time_out = linear(config.width, 3 * config.width)
        self.time_norm = RMSNorm(config.width, dtype=dtype, rngs=rngs)
        block = partial(DiTBlock, config, dtype=dtype, quantization=quantization)
        make_blocks = nnx.vmap(lambda keys: block(rngs=keys), in_axes=0, out_axes=0)
        self.blocks = make_blocks(rngs.split(config.num_blocks))
        self.final_modulation = Modulation(config, 2, dtype=dtype, rngs=rngs)
        self.final_linear = linear(config.width, config.latent_channels * patch_area)

    def __call__(
        self,
        x: Latents,
        c_noise: Float[Array, " B"],
        text: Text,
        mask: Float[Array, "B T H W 1"],
        padding_mask: Float[Array, "B T H W 1"],
        angles: Float[Array, "*B L half_K"],
    ) -> Latents:
        """Return the network F of Karras et al. (2022) for scaled latents `x` (`c_in` times the noisy state).

        `c_noise` is ln(sigma)/4. `mask` is 1 on conditioned latent frames, `padding_mask` 1 on padded cells.
        `angles` come from `nn.rotary.rotary_angles` for the patch grid.
        """
        tokens, inputs = self.embed(x, c_noise, text, mask, padding_mask, angles)
        structure, stacked = nnx.split(self.blocks)

        def run_block(tokens: Tokens, block_params: Any) -> tuple[Tokens, None]:
            block: DiTBlock = nnx.merge(structure, block_params)
            return block(tokens, inputs), None

        tokens, _ = jax.lax.scan(run_block, tokens, stacked)
        size = self.config.patch_size
        return unpatchify(self.project(tokens, inputs), patch_grid(x.shape, size), size)

    def embed(
        self,
        x: Latents,
        c_noise: Float[Array, " B"],
        text: Text,
        mask: Float[Array, "B T H W 1"],
        padding_mask: Float[Array, "B T H W 1"],
        angles: Float[Array, "*B L half_K"],
    ) -> tuple[Tokens, DiTBlockInputs]:
        """Embed latents, which starts the residual stream, and return it with the inputs that all blocks share."""
        dtype = self.patch_embedding.kernel[...].dtype
        grid = patch_grid(x.shape, self.config.patch_size)
        channels = jnp.concatenate([x.astype(dtype), mask.astype(dtype), padding_mask.astype(dtype)], axis=-1)
        tokens = self.patch_embedding(patchify(channels, self.config.patch_size))
        waves = sinusoid(c_noise, self.config.width).astype(dtype)
        # parity: upstream's embedding is the sinusoid itself; the linears only make the vector added to every AdaLN.
        adaln_lora = self.time_out(_silu(self.time_in(waves)))
        embedding = _silu(self.time_norm(waves))
        return tokens, DiTBlockInputs(
            embedding, adaln_lora, self.positions(grid), make_rotation(angles), text.astype(dtype)
        )

    def project(self, tokens: Tokens, inputs: DiTBlockInputs) -> Float[Array, "B L P"]:
        """Project the residual stream to the features of every patch; `unpatchify` makes latents of them."""
        shift, scale = self.final_modulation(inputs)
        return self.final_linear(modulate(tokens, shift, scale))


def patch_grid(shape: tuple[int, ...], patch_size: int) -> tuple[int, int, int]:
    """Return the patch grid (T, H, W) of latents of `shape` [B, T, H, W, C]."""
    return shape[1], shape[2] // patch_size, shape[3] // patch_size


def _input_factors(layer: Any) -> Float[Array, " I"] | None:
    return layer.input_factors if isinstance(layer, QuantizedLinear) else None


def _silu(x: Array) -> Array:
    return jax.nn.silu(x.astype(jnp.float32)).astype(x.dtype)
