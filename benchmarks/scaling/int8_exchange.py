"""Attention to tokens that several GPUs share, for which queries, keys and values travel in 8 bits.

Every token has, for each head, a float32 scale of its own. Its four bytes follow the head's integers, so that each
exchange is one all-to-all of one array of bytes. What arrives is bfloat16 again before it is attended to.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int8

from jax_interp.nn.attention import attention
from jax_interp.nn.kernels.row_kernels import TO_INTEGER
from jax_interp.nn.quantization import LARGEST, SMALLEST_RANGE, quantize_tokens

SCALE_BYTES = 4
WARPS = 8

Attend = Callable[[Array, Array, Array], Array]
"""Self-attention from a device's queries, keys and values `[B, L, N, K]`, as `Collectives.attend`."""
Pack = Callable[[Sequence[Array]], list[Array]]
"""A function that quantises arrays `[B, L, groups, ranks, N, K]`. It returns an array `[ranks, tokens, N, K + 4]` for
each group, with the tokens of the first array before those of the second."""


def pack(arrays: Sequence[Float[Array, "B _ groups ranks N K"]]) -> list[Int8[Array, "ranks tokens N packed_K"]]:
    """Quantise by XLA; see `Pack`."""
    return [jnp.concatenate([_packed(x[:, :, group]) for x in arrays], 1) for group in range(arrays[0].shape[2])]


def pack_by_kernel(
    arrays: Sequence[Float[Array, "B _ groups ranks N K"]],
) -> list[Int8[Array, "ranks tokens N packed_K"]]:
    """Quantise as `pack` does, but read every value once and write it where it is sent from.

    It is one Pallas kernel with a program per token, interpreted where there is no GPU. Ranks, heads and their width
    are powers of two. Arrays of different lengths, which only the last block has, are left to `pack`.
    """
    _, _, groups, ranks, heads, width = arrays[0].shape
    if len({x.shape for x in arrays}) > 1:
        return pack(arrays)
    by_token = [x.reshape(-1, *x.shape[2:]) for x in arrays]
    tokens, packed_width = len(by_token[0]), width + SCALE_BYTES
    interpret = jax.default_backend() != "gpu"

    def body(*refs: Any) -> None:
        for index, x_ref in enumerate(refs[: len(arrays)]):
            for group, packed_ref in enumerate(refs[len(arrays) :]):
                x = x_ref[group].astype(jnp.float32)
                scale = jnp.maximum(jnp.max(jnp.abs(x), axis=-1), SMALLEST_RANGE) / LARGEST
                values = x * (1 / scale)[..., None]
                # On a CPU XLA cancels the number by which a kernel rounds.
                values = jnp.round(values) if interpret else values + TO_INTEGER - TO_INTEGER
                packed_ref[:, index, :, pl.ds(0, width)] = values.astype(jnp.int8)
                shifts = 8 * lax.broadcasted_iota(jnp.int32, (ranks, heads, SCALE_BYTES), 2)
                scale_bytes = lax.bitcast_convert_type(scale, jnp.int32)[..., None] >> shifts
                packed_ref[:, index, :, pl.ds(width, SCALE_BYTES)] = scale_bytes.astype(jnp.int8)

    token = pl.BlockSpec((None, groups, ranks, heads, width), lambda row: (row, 0, 0, 0, 0))
    shape = jax.ShapeDtypeStruct((ranks, len(arrays), tokens, heads, packed_width), jnp.int8)
    packed_token = pl.BlockSpec((ranks, len(arrays), None, heads, packed_width), lambda row: (0, 0, row, 0, 0))
    packed = pl.pallas_call(
        body,
        grid=(tokens,),
        in_specs=[token] * len(arrays),
        out_specs=[packed_token] * groups,
        out_shape=[shape] * groups,
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=interpret,
    )(*by_token)
    return [each.reshape(ranks, -1, heads, packed_width) for each in packed]


def unpack(packed: Int8[Array, "*heads packed_K"], dtype: DTypeLike) -> Float[Array, "*heads K"]:
    """Return the values of packed tokens."""
    values, scale_bytes = jnp.split(packed, [packed.shape[-1] - SCALE_BYTES], axis=-1)
    scale = lax.bitcast_convert_type(scale_bytes, jnp.float32)
    return (values.astype(jnp.float32) * scale[..., None]).astype(dtype)


def in_8_bits(ranks: int, *, groups: int = 1, output: bool = False, pack: Pack = pack) -> Attend:
    """Return attention that exchanges queries, keys and values `[B, L, N, K]` in 8 bits, with `output` the result too.

    Heads go in `groups`, as in `runtime.all_to_all`. Tokens are in the order of their devices.
    """

    def attend(q: Array, k: Array, v: Array) -> Array:
        batch, length, _, width = q.shape
        by_rank = [x.reshape(*x.shape[:2], groups, ranks, -1, width) for x in (q, k, v)]
        ends = np.cumsum([batch * x.shape[1] for x in (q, k, v)])[:-1]
        results: list[Array] = []
        for packed in pack(by_rank):
            parts = jnp.split(_exchanged(packed), ends, axis=1)
            result = attention(*(_joined(unpack(part, q.dtype), batch) for part in parts))
            result = jnp.moveaxis(result.reshape(batch, ranks, length, -1, width), 1, 0)
            results.append(_returned(result))
        # Part i of a result has the heads of device i.
        return jnp.stack([jnp.moveaxis(result, 0, 2) for result in results], 2).reshape(q.shape)

    def _returned(result: Float[Array, "ranks B L N K"]) -> Array:
        if not output:
            return _exchanged(result)
        # What a device sends each other one lies together already: it is packed as if there were one device.
        (packed,) = pack([result.reshape(1, -1, 1, 1, *result.shape[3:])])
        return unpack(_exchanged(packed.reshape(*result.shape[:4], -1)), result.dtype)

    return attend


def _packed(x: Float[Array, "B L ranks N K"]) -> Int8[Array, "ranks tokens N packed_K"]:
    tokens = quantize_tokens(x)
    packed = jnp.concatenate([tokens.values, lax.bitcast_convert_type(tokens.scale, jnp.int8)], -1)
    return jnp.moveaxis(packed, 2, 0).reshape(x.shape[2], -1, x.shape[3], packed.shape[-1])


def _joined(x: Float[Array, "ranks tokens N K"], batch: int) -> Float[Array, "B all_tokens N K"]:
    """Return the tokens of all devices in one axis."""
    ranks, _, heads, width = x.shape
    return jnp.moveaxis(x.reshape(ranks, batch, -1, heads, width), 0, 1).reshape(batch, -1, heads, width)


def _exchanged(x: Array) -> Array:
    """Send part i of the first axis to device i, and return what each device sent here."""
    return lax.all_to_all(x, "sequence", split_axis=0, concat_axis=0, tiled=True)
