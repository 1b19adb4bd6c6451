"""The product of int8 matrices with a scale per row of each (per token and per output channel).

The sums are int32 and therefore exact, whatever computes them; the scales are applied at the end, in float32.
"""

from functools import cache

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int8

from jax_interp.nn.activations import gelu_float32
from jax_interp.nn.int8_orders import fastest_order
from jax_interp.nn.kernel_check import works

MIN_ROWS = 64
"""The fewest rows for which our kernel is used: XLA's product is made for a few."""


def int8_matmul(
    x: Int8[Array, "M K"],
    x_scale: Float[Array, " M"],
    weight: Int8[Array, "N K"],
    weight_scale: Float[Array, " N"],
    dtype: DTypeLike,
    *,
    gelu: bool = False,
) -> Float[Array, "M N"]:
    """Return `(x weightᵀ) · x_scale · weight_scale`, with the exact GELU if asked for, rounded once to `dtype`."""
    if fits_kernel(x, weight, dtype) and kernel_available():
        from jax_interp.nn.int8_hopper import int8_matmul_hopper

        order = fastest_order(x.shape[0], *weight.shape)
        return int8_matmul_hopper(x, x_scale, weight, weight_scale, dtype, gelu=gelu, order=order)
    return xla_int8_matmul(x, x_scale, weight, weight_scale, dtype, gelu=gelu)


def xla_int8_matmul(
    x: Int8[Array, "M K"],
    x_scale: Float[Array, " M"],
    weight: Int8[Array, "N K"],
    weight_scale: Float[Array, " N"],
    dtype: DTypeLike,
    *,
    gelu: bool = False,
) -> Float[Array, "M N"]:
    """Compute the same by XLA, on any device."""
    sums = lax.dot_general(x, weight, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32)
    values = sums.astype(jnp.float32) * x_scale[:, None] * weight_scale[None, :]
    return (gelu_float32(values) if gelu else values).astype(dtype)


def fits_kernel(x: Array | jax.ShapeDtypeStruct, weight: Array | jax.ShapeDtypeStruct, dtype: DTypeLike) -> bool:
    """Tell whether our kernel takes these shapes and this dtype of the result."""
    return (
        x.shape[0] >= MIN_ROWS
        and not x.shape[0] % 8
        and not x.shape[1] % 128
        and not weight.shape[0] % 64
        and jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16)
    )


@cache
def kernel_available() -> bool:
    """Tell whether our kernel runs here, by running it once on a small input."""
    return works("the int8 kernel for Hopper", "XLA's product", _kernel_is_right)


def _kernel_is_right() -> bool:
    """Compare the kernel with XLA's product, on sizes that fill no tile; sums and roundings have to be the same."""
    from jax_interp.nn.int8_hopper import int8_matmul_hopper

    keys = jax.random.split(jax.random.key(0), 4)
    x, weight = (
        jax.random.randint(key, (rows, 256), -127, 128).astype(jnp.int8)
        for key, rows in ((keys[0], 200), (keys[1], 320))
    )
    x_scale, weight_scale = jax.random.uniform(keys[2], (200,)), jax.random.uniform(keys[3], (320,))
    arguments = x, x_scale, weight, weight_scale, jnp.bfloat16
    return bool((int8_matmul_hopper(*arguments) == xla_int8_matmul(*arguments)).all())
