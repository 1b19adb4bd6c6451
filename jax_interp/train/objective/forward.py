"""The transformer's forward pass in training: compute dtype, rematerialised blocks, weights gathered block by block."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_interp.models.dit import DiT, DiTBlockInputs, patch_grid
from jax_interp.nn.embeddings import CellPositions
from jax_interp.nn.params import StackedNetwork
from jax_interp.nn.patches import unpatchify
from jax_interp.train.settings import Keep
from jax_interp.types import Latents, Params, Text, Tokens

Gather = Callable[[Params], Params]
"""A function that gathers (all-gathers) the weights of a block that are sharded over devices.

`lambda block: block` serves a single device.
"""

CUDNN_ATTENTION = "dot_product_attention_fwd_wrapper"
"""What JAX calls the operation of `jax.nn.dot_product_attention(implementation="cudnn")`."""


@dataclass(frozen=True)
class ForwardInputs:
    """What the network reads beside its parameters, for a batch of pairs."""

    x: Latents
    """The noisy latents times `c_in`."""
    c_noise: Float[Array, " B"]
    """A quarter of the logarithm of sigma."""
    text: Text
    """The embeddings of the prompts."""
    indicator: Float[Array, "B T 1 1 1"]
    """1 at the latent frames that are known, else 0."""
    angles: Float[Array, "B L half_K"]
    """The rotary angles of every token."""


def forward(
    network: StackedNetwork[DiT],
    params: Params,
    given: ForwardInputs,
    *,
    dtype: Any,
    learned_positions: bool = True,
    keep: Keep = "inputs",
    gather: Gather = lambda block: block,
) -> Latents:
    """Return the network F for the scaled latents in `given`, computed in `dtype` and returned in float32.

    Of every block `keep` (as in `TrainSettings`) is kept for the backward pass, which computes the rest again. Weights
    are cast block by block, so that no second copy of all of them exists.
    """
    outer = cast({name: leaf for name, leaf in params.items() if name != "blocks"}, dtype)
    tokens, inputs = embed(network, outer, given, learned_positions)

    def step(tokens: Tokens, block: Params) -> tuple[Tokens, None]:
        return run_block(network, gather(cast(block, dtype)), tokens, inputs), None

    # Within a loop the compiler cannot merge the two computations of a block, which is all that prevent_cse is for.
    kept = jax.checkpoint(step, prevent_cse=False, policy=_POLICIES[keep])
    tokens, _ = jax.lax.scan(kept, tokens, params["blocks"])
    return project(network, outer, tokens, inputs, given.x.shape)


def embed(
    network: StackedNetwork[DiT],
    outer: Params,
    given: ForwardInputs,
    learned_positions: bool,
) -> tuple[Tokens, DiTBlockInputs]:
    """Embed latents, which starts the residual stream, and return it with the inputs that all blocks share."""
    mask = jnp.broadcast_to(given.indicator, (*given.x.shape[:4], 1))
    tokens, inputs = network.bind_outer(outer).embed(
        given.x, given.c_noise, given.text, mask, jnp.zeros_like(mask), given.angles
    )
    if not learned_positions:
        inputs = inputs._replace(positions=CellPositions(jnp.zeros(tokens.shape[1:], tokens.dtype)))
    return tokens, inputs


def run_block(network: StackedNetwork[DiT], block: Params, tokens: Tokens, inputs: DiTBlockInputs) -> Tokens:
    """Run one block."""
    attend, transform = (
        network.bind_part(part, {name: block[name] for name in names}) for part, names in enumerate(network.parts)
    )
    return transform.transform(attend.attend(tokens, inputs), inputs)


def project(
    network: StackedNetwork[DiT], outer: Params, tokens: Tokens, inputs: DiTBlockInputs, shape: tuple[int, ...]
) -> Latents:
    """Project the end of the residual stream to latents of `shape`, float32."""
    ends = network.bind_outer(outer)
    size = ends.config.patch_size
    return unpatchify(ends.project(tokens, inputs).astype(jnp.float32), patch_grid(shape, size), size)


def cast(params: Params, dtype: Any) -> Params:
    """Cast every array of `params` to `dtype`."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


def _is_self_attention(primitive: Any, *operands: Any, **_: Any) -> bool:
    """Tell whether an operation is cuDNN's attention of all tokens to all: its result and what its gradient reads.

    Attention to a text takes no time that is worth the memory. The XLA path, which serves elsewhere, is made of
    ordinary operations and is computed again.
    """
    return primitive.name == CUDNN_ATTENTION and operands[0].shape == operands[1].shape


_POLICIES = {
    "inputs": None,
    "attention": _is_self_attention,
    "products": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable, _is_self_attention
    ),
}
