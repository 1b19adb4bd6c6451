"""The product of int8 matrices with a scale per row of each (per token and per output channel).

The sums are int32 and therefore exact, whatever computes them; the scales are applied at the end, in float32.
"""

from functools import cache

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int8

from jax_interp.nn.activations import gelu_in_kernel
from jax_interp.nn.kernels.check import works
from jax_interp.nn.kernels.int8_orders import fastest_order

MIN_ROWS, MIN_COLUMNS = 128, 256
"""The least size of a result that our kernel makes, which is one of its tiles."""


def int8_matmul(
    x: Int8[Array, "M K"],
    x_scale: Float[Array, " M"],
    weight: Int8[Array, "N K"],
    weight_scale: Float[Array, " N"],
    dtype: DTypeLike,
    *,
    parts: int = 1,
    gelu: bool = False,
) -> tuple[Float[Array, "M part_N"], ...]:
    """Return `(x weightᵀ) · x_scale · weight_scale`, with the exact GELU if asked for, rounded once to `dtype`.

    The result is in `parts` arrays of as many columns each.
    """
    if fits_kernel(x, weight, dtype, parts) and kernel_available():
        from jax_interp.nn.kernels.int8_hopper import int8_matmul_hopper

        order = fastest_order(x.shape[0], *weight.shape)
        return int8_matmul_hopper(x, x_scale, weight, weight_scale, dtype, parts=parts, gelu=gelu, order=order)
    return xla_int8_matmul(x, x_scale, weight, weight_scale, dtype, parts=parts, gelu=gelu)


def xla_int8_matmul(
    x: Int8[Array, "M K"],
    x_scale: Float[Array, " M"],
    weight: Int8[Array, "N K"],
    weight_scale: Float[Array, " N"],
    dtype: DTypeLike,
    *,
    parts: int = 1,
    gelu: bool = False,
) -> tuple[Float[Array, "M part_N"], ...]:
    """Compute the same by XLA, on any device."""
    sums = lax.dot_general(x, weight, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32)
    values = sums.astype(jnp.float32) * x_scale[:, None] * weight_scale[None, :]
    return tuple(jnp.split((gelu_in_kernel(values) if gelu else values).astype(dtype), parts, axis=1))


def fits_kernel(
    x: Array | jax.ShapeDtypeStruct, weight: Array | jax.ShapeDtypeStruct, dtype: DTypeLike, parts: int = 1
) -> bool:
    """Tell whether our kernel takes these shapes and this dtype of the result."""
    return (
        x.shape[0] >= MIN_ROWS
        and weight.shape[0] >= MIN_COLUMNS
        and not x.shape[0] % 8
        and not x.shape[1] % 128
        and not weight.shape[0] % (64 if parts == 1 else 256 * parts)
        and jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16)
    )


@cache
def kernel_available() -> bool:
    """Tell whether our kernel runs here, by running it once on a small input."""
    return works("the int8 kernel for Hopper", "XLA's product", _kernel_is_right)


def _kernel_is_right() -> bool:
    """Compare the kernel with XLA's product, on sizes that fill no tile; sums and roundings have to be the same."""
    from jax_interp.nn.kernels.int8_hopper import int8_matmul_hopper

    keys = jax.random.split(jax.random.key(0), 4)
    x, weight = (
        jax.random.randint(key, (rows, 256), -127, 128).astype(jnp.int8)
        for key, rows in ((keys[0], 200), (keys[1], 320))
    )
    x_scale, weight_scale = jax.random.uniform(keys[2], (200,)), jax.random.uniform(keys[3], (320,))
    arguments = x, x_scale, weight, weight_scale, jnp.bfloat16
    return bool((int8_matmul_hopper(*arguments)[0] == xla_int8_matmul(*arguments)[0]).all())
