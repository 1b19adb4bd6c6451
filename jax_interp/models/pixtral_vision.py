"""The picture encoder of Pixtral (Mistral AI, 2024) and its projector: from a picture to what the language model reads.

Computes in the dtype of its parameters; norms, softmax, rotary and activations are float32 inside and round once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jax_interp.config import PixtralVisionConfig
from jax_interp.nn.activations import gelu
from jax_interp.nn.attention import attention
from jax_interp.nn.exchange import NONE, Exchange
from jax_interp.nn.gated_mlp import SwiGLU
from jax_interp.nn.norms import RMSNorm
from jax_interp.nn.patches import patchify
from jax_interp.nn.rotary import apply_rotary, rotation
from jax_interp.types import Text, Tokens

Turn = Float[Array, "2 L half_K"]
"""`nn.rotary.rotation` of the patches' angles, which all blocks share."""


class PixtralAttention(nnx.Module):
    """Multi-head attention of all patches of a picture to each other, queries and keys turned by their places."""

    def __init__(self, config: PixtralVisionConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        inner = config.num_heads * config.head_width
        self.head_width = config.head_width
        self.query = _linear(config.width, inner, dtype=dtype, rngs=rngs)
        self.key = _linear(config.width, inner, dtype=dtype, rngs=rngs)
        self.value = _linear(config.width, inner, dtype=dtype, rngs=rngs)
        self.out = _linear(inner, config.width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens, turn: Turn, *, attend: Callable[[Array, Array, Array], Array] = attention) -> Tokens:
        q, k, v = (
            linear(x).reshape(*x.shape[:-1], -1, self.head_width) for linear in (self.query, self.key, self.value)
        )
        out = attend(apply_rotary(q, turn), apply_rotary(k, turn), v)
        return self.out(out.reshape(*x.shape[:-1], -1))


class PixtralBlock(nnx.Module):
    """`attend`, then `transform`; each reads the normalised residual stream and adds to it, and needs the parameters
    of its entry of `PARTS` alone. With an `exchange` heads and hidden units are those of one device.
    """

    PARTS = (("attention_norm", "attention"), ("mlp_norm", "mlp"))

    def __init__(self, config: PixtralVisionConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        norm = partial(RMSNorm, config.width, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)
        self.attention_norm = norm()
        self.attention = PixtralAttention(config, dtype=dtype, rngs=rngs)
        self.mlp_norm = norm()
        self.mlp = SwiGLU(config.width, config.mlp_width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens, turn: Turn) -> Tokens:
        return self.transform(self.attend(x, turn))

    def attend(self, x: Tokens, turn: Turn, exchange: Exchange = NONE) -> Tokens:
        """Self-attention."""
        return x + exchange.add(self.attention(self.attention_norm(x), turn, attend=exchange.attend))

    def transform(self, x: Tokens, exchange: Exchange = NONE) -> Tokens:
        """The MLP."""
        return x + exchange.add(self.mlp(self.mlp_norm(x)))


class Projector(nnx.Module):
    """Linear, exact GELU, linear, from the width of the encoder to that of the language model."""

    def __init__(self, config: PixtralVisionConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.up = _linear(config.width, config.text_width, use_bias=True, dtype=dtype, rngs=rngs)
        self.out = _linear(config.text_width, config.text_width, use_bias=True, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens) -> Text:
        return self.out(gelu(self.up(x)))


class PixtralVision(nnx.Module):
    """A picture to one vector of the language model's width for each of its patches, row by row.

    A forward is `embed`, every block of the stack in turn, `finish`; a runtime that places the blocks one by one
    calls these itself. Every grid of patches compiles anew.
    """

    def __init__(self, config: PixtralVisionConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.config = config
        self.patch_embedding = _linear(3 * config.patch_size**2, config.width, dtype=dtype, rngs=rngs)
        self.input_norm = RMSNorm(config.width, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)
        make_block = nnx.vmap(lambda keys: PixtralBlock(config, dtype=dtype, rngs=keys), in_axes=0, out_axes=0)
        self.blocks = make_block(rngs.split(config.num_layers))
        self.projector = Projector(config, dtype=dtype, rngs=rngs)

    def __call__(self, pixels: Float[Array, "B Y X 3"]) -> Text:
        """Encode `pixels` as `media.pixtral_image.prepare_picture` makes them; those of a batch do not see each other.

        Raises:
            ValueError: height or width is not a multiple of the patch size.
        """
        x, turn = self.embed(pixels)
        structure, stacked = nnx.split(self.blocks)

        def run_block(x: Tokens, block_params: Any) -> tuple[Tokens, None]:
            block: PixtralBlock = nnx.merge(structure, block_params)
            return block(x, turn), None

        x, _ = jax.lax.scan(run_block, x, stacked)
        return self.finish(x)

    def embed(self, pixels: Float[Array, "B Y X 3"]) -> tuple[Tokens, Turn]:
        """The residual stream's start, and what all blocks share."""
        config = self.config
        height, width = pixels.shape[1:3]
        if height % config.patch_size or width % config.patch_size:
            raise ValueError(f"a picture of {width}x{height} is not made of whole patches of {config.patch_size}")
        patches = patchify(pixels[:, None].astype(self.patch_embedding.kernel[...].dtype), config.patch_size)
        angles = grid_angles(
            height // config.patch_size, width // config.patch_size, config.head_width, base=config.rotary_base
        )
        return self.input_norm(self.patch_embedding(patches)), rotation(jnp.asarray(angles))

    def finish(self, x: Tokens) -> Text:
        """The residual stream after the last block to the language model's input."""
        return self.projector(x)


def grid_angles(rows: int, columns: int, head_width: int, *, base: float) -> Float[np.ndarray, "L half_K"]:
    """Angles in radians of every patch of a grid, float32, row-major; columns are [by row | by column].

    Of the frequencies base^(-2i/K) the even ones turn with the row, the odd ones with the column.
    """
    frequencies = 1 / np.float32(base) ** (np.arange(0, head_width, 2, dtype=np.float32) / np.float32(head_width))
    by_row = np.outer(np.arange(rows, dtype=np.float32), frequencies[0::2])
    by_column = np.outer(np.arange(columns, dtype=np.float32), frequencies[1::2])
    return np.concatenate([np.repeat(by_row, columns, axis=0), np.tile(by_column, (rows, 1))], axis=-1)


def _linear(inputs: int, outputs: int, *, use_bias: bool = False, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, use_bias=use_bias, dtype=dtype, param_dtype=dtype, rngs=rngs)
