"""What a network does differently where its tokens, heads or hidden units are spread over devices: nothing, alone.

A model never learns where it runs. Whoever spreads it hands in these two functions.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Float

from jax_interp.nn.attention import attention


class Collectives(NamedTuple):
    """The places in a transformer block where values of other devices are needed."""

    attend: Callable[[Array, Array, Array], Array] = attention
    """Self-attention of queries, keys and values `[B, L, N, K]` of this device's tokens and heads, over all tokens."""
    all_reduce: Callable[[Float[Array, "B L D"]], Float[Array, "B L D"]] = lambda x: x
    """The sum of a product whose inner axis (heads, hidden units) is spread."""


ONE_DEVICE = Collectives()
"""One device holds everything."""
