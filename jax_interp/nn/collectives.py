"""The collective operations of a transformer block whose tokens, heads or hidden units are sharded over devices.

A model never learns where it runs: whoever shards it passes in these functions.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Float

from jax_interp.nn.attention import attention


class Collectives(NamedTuple):
    """The operations of a transformer block that need values of other devices; the defaults are for one device.

    `Collectives(all_reduce=lambda x: jax.lax.psum(x, "tensor"))` is for heads and hidden units sharded over `tensor`.
    """

    attend: Callable[[Array, Array, Array], Array] = attention
    """Self-attention over all tokens, from queries, keys and values `[B, L, N, K]` of a device's tokens and heads."""
    all_reduce: Callable[[Float[Array, "B L D"]], Float[Array, "B L D"]] = lambda x: x
    """The sum over devices of a matrix product whose inner axis (heads, hidden units) is sharded."""
    all_reduce_max: Callable[[Float[Array, "*tokens"]], Float[Array, "*tokens"]] | None = None
    """The maximum over devices of what they found in their shares of the heads or hidden units of each token; None if
    each device has all of them."""


ONE_DEVICE = Collectives()
"""The collectives of a single device, which holds everything."""
