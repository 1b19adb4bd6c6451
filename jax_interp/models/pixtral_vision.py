"""The picture encoder of Pixtral (Mistral AI, 2024) and its projector to the language model's embeddings.

It computes in the dtype of its parameters; norms, softmax, rotary and activations are float32 inside and round once.
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
from jax_interp.nn.collectives import ONE_DEVICE, Collectives
from jax_interp.nn.gated_mlp import SwiGLU
from jax_interp.nn.norms import RMSNorm
from jax_interp.nn.patches import patchify
from jax_interp.nn.rotary import apply_rotary, make_rotation
from jax_interp.types import Text, Tokens

Rotation = Float[Array, "2 L half_K"]
"""The rotation of the patches (`nn.rotary.make_rotation`), which all blocks share."""


class PixtralAttention(nnx.Module):
    """Multi-head self-attention of all patches of a picture, with rotary embedding of their rows and columns."""

    def __init__(self, config: PixtralVisionConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        inner = config.num_heads * config.head_width
        self.head_width = config.head_width
        self.query = _linear(config.width, inner, dtype=dtype, rngs=rngs)
        self.key = _linear(config.width, inner, dtype=dtype, rngs=rngs)
        self.value = _linear(config.width, inner, dtype=dtype, rngs=rngs)
        self.out = _linear(inner, config.width, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Tokens, rotation: Rotation, *, attend: Callable[[Array, Array, Array], Array] = attention
    ) -> Tokens:
        q, k, v = (
            linear(x).reshape(*x.shape[:-1], -1, self.head_width) for linear in (self.query, self.key, self.value)
        )
        out = attend(apply_rotary(q, rotation), apply_rotary(k, rotation), v)
        return self.out(out.reshape(*x.shape[:-1], -1))


class PixtralBlock(nnx.Module):
    """A pre-norm transformer block: `attend`, then `transform`. Each needs only the parameters of its entry of `PARTS`.

    With `collectives` the heads and hidden units are those of one device.
    """

    PARTS = (("attention_norm", "attention"), ("mlp_norm", "mlp"))

    def __init__(self, config: PixtralVisionConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        norm = partial(RMSNorm, config.width, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)
        self.attention_norm = norm()
        self.attention = PixtralAttention(config, dtype=dtype, rngs=rngs)
        self.mlp_norm = norm()
        self.mlp = SwiGLU(config.width, config.mlp_width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens, rotation: Rotation) -> Tokens:
        return self.transform(self.attend(x, rotation))

    def attend(self, x: Tokens, rotation: Rotation, collectives: Collectives = ONE_DEVICE) -> Tokens:
        """Apply self-attention and its residual."""
        return x + collectives.all_reduce(self.attention(self.attention_norm(x), rotation, attend=collectives.attend))

    def transform(self, x: Tokens, collectives: Collectives = ONE_DEVICE) -> Tokens:
        """Apply the MLP and its residual."""
        return x + collectives.all_reduce(self.mlp(self.mlp_norm(x)))


class Projector(nnx.Module):
    """The projector from the width of the encoder to that of the language model: linear, exact GELU, linear."""

    def __init__(self, config: PixtralVisionConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.up = _linear(config.width, config.text_width, use_bias=True, dtype=dtype, rngs=rngs)
        self.out = _linear(config.text_width, config.text_width, use_bias=True, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens) -> Text:
        return self.out(gelu(self.up(x)))


class PixtralVision(nnx.Module):
    """The picture encoder: one vector of the language model's width for each patch of a picture, row by row.

    A forward pass runs `embed`, every block of the stack in order, and `finish`; a runtime that places the blocks one
    by one calls these itself. Every grid of patches is compiled by itself.
    """

    def __init__(self, config: PixtralVisionConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.config = config
        self.patch_embedding = _linear(3 * config.patch_size**2, config.width, dtype=dtype, rngs=rngs)
        self.input_norm = RMSNorm(config.width, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)
        make_block = nnx.vmap(lambda keys: PixtralBlock(config, dtype=dtype, rngs=keys), in_axes=0, out_axes=0)
        self.blocks = make_block(rngs.split(config.num_layers))
        self.projector = Projector(config, dtype=dtype, rngs=rngs)

    def __call__(self, pixels: Float[Array, "B Y X 3"]) -> Text:
        """Encode `pixels`, each picture by itself, as `media.pictures.pixtral_image.prepare_picture` makes them.

        Raises:
            ValueError: height or width is not a multiple of the patch size.
        """
        x, rotation = self.embed(pixels)
        structure, stacked = nnx.split(self.blocks)

        def run_block(x: Tokens, block_params: Any) -> tuple[Tokens, None]:
            block: PixtralBlock = nnx.merge(structure, block_params)
            return block(x, rotation), None

        x, _ = jax.lax.scan(run_block, x, stacked)
        return self.finish(x)

    def embed(self, pixels: Float[Array, "B Y X 3"]) -> tuple[Tokens, Rotation]:
        """Start the residual stream with the patches, and return it with the rotation that all blocks share."""
        config = self.config
        height, width = pixels.shape[1:3]
        if height % config.patch_size or width % config.patch_size:
            raise ValueError(f"a picture of {width}x{height} is not made of whole patches of {config.patch_size}")
        patches = patchify(pixels[:, None].astype(self.patch_embedding.kernel[...].dtype), config.patch_size)
        angles = grid_angles(
            height // config.patch_size, width // config.patch_size, config.head_width, base=config.rotary_base
        )
        return self.input_norm(self.patch_embedding(patches)), make_rotation(jnp.asarray(angles))

    def finish(self, x: Tokens) -> Text:
        """Turn the residual stream after the last block into the language model's input."""
        return self.projector(x)


def grid_angles(rows: int, columns: int, head_width: int, *, base: float) -> Float[np.ndarray, "L half_K"]:
    """Return the angle in radians of every patch of a grid, float32, row-major; columns are [by row | by column].

    Of the frequencies base^(-2i/K) the even ones belong to the row, the odd ones to the column.
    """
    frequencies = 1 / np.float32(base) ** (np.arange(0, head_width, 2, dtype=np.float32) / np.float32(head_width))
    by_row = np.outer(np.arange(rows, dtype=np.float32), frequencies[0::2])
    by_column = np.outer(np.arange(columns, dtype=np.float32), frequencies[1::2])
    return np.concatenate([np.repeat(by_row, columns, axis=0), np.tile(by_column, (rows, 1))], axis=-1)


def _linear(inputs: int, outputs: int, *, use_bias: bool = False, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, use_bias=use_bias, dtype=dtype, param_dtype=dtype, rngs=rngs)
