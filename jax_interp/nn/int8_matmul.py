"""The product of int8 matrices with a scale per row of each (per token and per output channel).

The sums are int32 and therefore exact, whatever computes them; the scales are applied at the end, in float32.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int8


def int8_matmul(
    x: Int8[Array, "M K"],
    x_scale: Float[Array, " M"],
    weight: Int8[Array, "N K"],
    weight_scale: Float[Array, " N"],
    dtype: DTypeLike,
) -> Float[Array, "M N"]:
    """Return `(x weightᵀ) · x_scale · weight_scale`, rounded once to `dtype`."""
    sums = lax.dot_general(x, weight, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32)
    return (sums.astype(jnp.float32) * x_scale[:, None] * weight_scale[None, :]).astype(dtype)
