"""The picture encoder of SigLIP (Zhai et al., 2023; so400m of Alabdulmohsin et al., 2023): one vector a picture.

It computes in the dtype of its parameters; norms, softmax and activations are float32 inside and round once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jax_interp.config import SiglipVisionConfig
from jax_interp.nn.attention import attention
from jax_interp.nn.collectives import ONE_DEVICE, Collectives
from jax_interp.nn.norms import LayerNorm
from jax_interp.nn.patches import patchify
from jax_interp.types import Tokens

AllReduce = Callable[[Tokens], Tokens]
"""`Collectives.all_reduce`, as `lambda x: x` on one device."""


class SiglipAttention(nnx.Module):
    """Multi-head self-attention of all patches of a picture."""

    def __init__(self, config: SiglipVisionConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.head_width = config.width // config.num_heads
        linear = partial(_linear, config.width, config.width, dtype=dtype, rngs=rngs)
        self.query, self.key, self.value, self.out = linear(), linear(), linear(), linear()

    def __call__(self, x: Tokens, collectives: Collectives = ONE_DEVICE) -> Tokens:
        q, k, v = (
            linear(x).reshape(*x.shape[:-1], -1, self.head_width) for linear in (self.query, self.key, self.value)
        )
        return _product(self.out, collectives.attend(q, k, v).reshape(*x.shape[:-1], -1), collectives.all_reduce)


class SiglipMLP(nnx.Module):
    """An MLP: linear, GELU in its tanh form, linear."""

    def __init__(self, config: SiglipVisionConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.up = _linear(config.width, config.mlp_width, dtype=dtype, rngs=rngs)
        self.down = _linear(config.mlp_width, config.width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens, collectives: Collectives = ONE_DEVICE) -> Tokens:
        hidden = jax.nn.gelu(self.up(x).astype(jnp.float32), approximate=True).astype(x.dtype)
        return _product(self.down, hidden, collectives.all_reduce)


class SiglipBlock(nnx.Module):
    """A pre-norm transformer block: `attend`, then `transform`. Each needs only the parameters of its entry of `PARTS`.

    With `collectives` the heads and hidden units are those of one device.
    """

    PARTS = (("attention_norm", "attention"), ("mlp_norm", "mlp"))

    def __init__(self, config: SiglipVisionConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        norm = partial(LayerNorm, config.width, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)
        self.attention_norm = norm()
        self.attention = SiglipAttention(config, dtype=dtype, rngs=rngs)
        self.mlp_norm = norm()
        self.mlp = SiglipMLP(config, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens) -> Tokens:
        return self.transform(self.attend(x))

    def attend(self, x: Tokens, collectives: Collectives = ONE_DEVICE) -> Tokens:
        """Apply self-attention and its residual."""
        return x + self.attention(self.attention_norm(x), collectives)

    def transform(self, x: Tokens, collectives: Collectives = ONE_DEVICE) -> Tokens:
        """Apply the MLP and its residual."""
        return x + self.mlp(self.mlp_norm(x), collectives)


class AttentionPooling(nnx.Module):
    """Attention pooling of all patches to one vector: a learned query attends to them, then comes an MLP."""

    def __init__(self, config: SiglipVisionConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.num_heads = config.num_heads
        self.probe = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), (1, 1, config.width), dtype))
        self.query_key_value = _linear(config.width, 3 * config.width, dtype=dtype, rngs=rngs)
        self.out = _linear(config.width, config.width, dtype=dtype, rngs=rngs)
        self.norm = LayerNorm(config.width, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)
        self.mlp = SiglipMLP(config, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens) -> Float[Array, "B D"]:
        kernels = jnp.split(self.query_key_value.kernel[...], 3, axis=-1)
        biases = jnp.split(self.query_key_value.bias[...], 3)  # type: ignore[index]
        probe = jnp.broadcast_to(self.probe[...], (x.shape[0], 1, x.shape[-1]))
        q, k, v = (
            (jnp.matmul(source, kernel) + bias).reshape(*source.shape[:-1], self.num_heads, -1)
            for source, kernel, bias in zip((probe, x, x), kernels, biases, strict=True)
        )
        found = self.out(attention(q, k, v).reshape(probe.shape))
        return (found + self.mlp(self.norm(found)))[:, 0]


class SiglipVision(nnx.Module):
    """The picture encoder of SigLIP: a picture to one vector.

    A forward pass runs `embed`, every block of the stack in order, and `finish`; a runtime that places the blocks one
    by one calls these itself.
    """

    def __init__(self, config: SiglipVisionConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.image_size, self.patch_size = config.image_size, config.patch_size
        self.patch_embedding = _linear(3 * config.patch_size**2, config.width, dtype=dtype, rngs=rngs)
        normal = nnx.initializers.normal(config.width**-0.5)
        self.positions = nnx.Param(normal(rngs.params(), (config.num_patches, config.width), dtype))
        make_block = nnx.vmap(lambda keys: SiglipBlock(config, dtype=dtype, rngs=keys), in_axes=0, out_axes=0)
        self.blocks = make_block(rngs.split(config.num_layers))
        self.final_norm = LayerNorm(config.width, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)
        self.pooling = AttentionPooling(config, dtype=dtype, rngs=rngs)

    def __call__(self, pixels: Float[Array, "B Y X 3"]) -> Float[Array, "B D"]:
        """Encode `pixels`, RGB in [-1, 1] of the configured size, each picture of a batch by itself.

        Raises:
            ValueError: the pictures are of another size.
        """
        x = self.embed(pixels)
        structure, stacked = nnx.split(self.blocks)

        def run_block(x: Tokens, block_params: Any) -> tuple[Tokens, None]:
            block: SiglipBlock = nnx.merge(structure, block_params)
            return block(x), None

        x, _ = jax.lax.scan(run_block, x, stacked)
        return self.finish(x)

    def embed(self, pixels: Float[Array, "B Y X 3"]) -> Tokens:
        """Embed the patches, which starts the residual stream."""
        if pixels.shape[1:] != (self.image_size, self.image_size, 3):
            raise ValueError(f"expected pictures [B, {self.image_size}, {self.image_size}, 3], got {pixels.shape}")
        # parity: pixels at the right and lower border that make no whole patch are not looked at.
        whole = self.image_size // self.patch_size * self.patch_size
        patches = patchify(pixels[:, None, :whole, :whole].astype(self.positions[...].dtype), self.patch_size)
        return self.patch_embedding(patches) + self.positions[...]

    def finish(self, x: Tokens) -> Float[Array, "B D"]:
        """Turn the residual stream after the last block into the picture's vector."""
        return self.pooling(self.final_norm(x))


def _product(linear: nnx.Linear, x: Float[Array, "B L inner"], all_reduce: AllReduce) -> Tokens:
    """Return `linear` of `x`, whose inner axis may be sharded: the bias is added once, after the sum."""
    return all_reduce(jnp.matmul(x, linear.kernel[...])) + linear.bias[...]  # type: ignore[index]


def _linear(inputs: int, outputs: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, dtype=dtype, param_dtype=dtype, rngs=rngs)
