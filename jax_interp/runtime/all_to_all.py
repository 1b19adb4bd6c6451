"""The collectives of a block across devices, as `nn.collectives` defines them; for use within `jax.shard_map`."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_interp.nn.attention import attention
from jax_interp.nn.collectives import ONE_DEVICE, Collectives
from jax_interp.nn.kernels.occupancy import attention_waves
from jax_interp.runtime.mesh import DeviceMesh

GROUPS = 2
"""The number of groups of heads, of which one is exchanged while the other is attended to."""


def collectives_between(devices: DeviceMesh, *, cells: int = 1, cells_here: int = 1) -> Collectives:
    """Return the collectives of `devices`: sums over `tensor`, and self-attention over `sequence` by all-to-all.

    The all-to-all exchange turns a shard of the tokens with all heads into all tokens with a shard of the heads
    (DeepSpeed-Ulysses, Jacobs et al. 2023). A device has `cells_here` of the cells of every frame, frame by frame. Of
    all cells, `cells` are real; the padding of the last devices is left out of the attention.
    """
    if devices.alone:
        return ONE_DEVICE
    ranks = devices.shape.sequence

    def attend(q: Array, k: Array, v: Array) -> Array:
        if ranks == 1:
            return attention(q, k, v)
        groups = head_groups(q.shape[1] // cells_here * cells, q.shape[2], ranks)
        heads = (jnp.split(x, groups, axis=2) for x in (q, k, v))
        return jnp.concatenate([attend_group(*group) for group in zip(*heads, strict=True)], axis=2)

    def attend_group(q: Array, k: Array, v: Array) -> Array:
        # One exchange for all three arrays: separate exchanges would pay the latency three times.
        together = _to_heads(jnp.concatenate([q, k, v], axis=1), ranks, cells, cells_here)
        lengths = [x.shape[1] // cells_here * cells for x in (q, k)]
        out = attention(*jnp.split(together, (lengths[0], sum(lengths)), axis=1))
        return _to_tokens(out, ranks, cells, cells_here)[:, :, : q.shape[2]]

    if devices.shape.tensor == 1:
        return Collectives(attend)
    return Collectives(attend, partial(jax.lax.psum, axis_name="tensor"), partial(jax.lax.pmax, axis_name="tensor"))


def head_groups(num_queries: int, num_heads: int, ranks: int) -> int:
    """Return in how many groups a device attends to its share of the heads: two, or one where two would take longer.

    Few heads fill the last turn of a GPU's multiprocessors badly: of 10,560 queries, 4 heads take three turns and 8
    heads five.
    """
    if num_heads % (GROUPS * ranks):
        return 1
    heads = num_heads // ranks
    apart, together = GROUPS * attention_waves(num_queries, heads // GROUPS), attention_waves(num_queries, heads)
    return GROUPS if apart <= together else 1


def _to_heads(x: Float[Array, "B L N K"], ranks: int, cells: int, cells_here: int) -> Array:
    """Exchange a shard of the tokens with all heads for all tokens with a shard of the heads.

    Heads of zeros fill up the last ranks where the number of heads does not divide evenly.
    """
    batch, _, heads, width = x.shape
    x = jnp.pad(x, ((0, 0), (0, 0), (0, -heads % ranks), (0, 0)))
    x = x.reshape(batch, -1, cells_here, x.shape[2], width)
    x = jax.lax.all_to_all(x, "sequence", split_axis=3, concat_axis=2, tiled=True)
    return x[:, :, :cells].reshape(batch, -1, *x.shape[3:])


def _to_tokens(x: Float[Array, "B L N K"], ranks: int, cells: int, cells_here: int) -> Array:
    """Invert `_to_heads`; the heads of zeros that it added remain."""
    batch, _, heads, width = x.shape
    x = x.reshape(batch, -1, cells, heads, width)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, ranks * cells_here - cells), (0, 0), (0, 0)))
    x = jax.lax.all_to_all(x, "sequence", split_axis=2, concat_axis=3, tiled=True)
    return x.reshape(batch, -1, *x.shape[3:])
