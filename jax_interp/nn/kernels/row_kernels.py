"""What lies between products in 8 bits, each as one Pallas kernel with a program per token, which reads a token once.

XLA makes two kernels of each, because a token's scale is known only when all of its values are. The kernels run on GPUs
of NVIDIA of compute capability 9.0; `quantized_ops` has the same as plain functions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, Int8

from jax_interp.nn.quantization import LARGEST, SMALLEST_RANGE

TO_INTEGER = 1.5 * 2.0**23
"""A number beside which float32 has no place for fractions: adding and subtracting it rounds half to even."""
WARPS = 8
HEAD_WARPS = 4


@jax.jit
def quantize_rows(
    x: Float[Array, "M K"], factors: Float[Array, " K"] | None = None
) -> tuple[Int8[Array, "M K"], Float[Array, " M"]]:
    """Return the rows, their channels times `factors` if there are any, in 8 bits, and a scale for each."""

    def body(x_ref: Any, *refs: Any) -> None:
        *factors_refs, values_ref, scale_ref = refs
        rows = [x_ref[piece].astype(jnp.float32) for piece in _pieces(x.shape[1])]
        _quantize(rows, factors_refs, values_ref, scale_ref)

    return _over_rows(body, x.shape, [(x, _row(x)), *_channels(factors)], [_values(x), _scales(x)])


@jax.jit
def norm_modulate_quantize(
    x: Float[Array, "M D"],
    shift: Float[Array, "B D"],
    scale: Float[Array, "B D"],
    factors: Float[Array, " D"] | None = None,
    epsilon: float = 1e-6,
) -> tuple[Int8[Array, "M D"], Float[Array, " M"]]:
    """Return the layer norm of the rows times `1 + scale` plus `shift`, in 8 bits, and a scale for each row.

    The rows are those of B samples, one after the other. Channels are multiplied by `factors`, if there are any, before
    they are quantised.
    """

    def body(x_ref: Any, shift_ref: Any, scale_ref: Any, *refs: Any) -> None:
        *factors_refs, values_ref, scales_ref = refs
        pieces = _pieces(x.shape[1])
        rows = [x_ref[piece].astype(jnp.float32) for piece in pieces]
        _quantize(_modulated(rows, pieces, shift_ref, scale_ref, epsilon), factors_refs, values_ref, scales_ref)

    of_sample = partial(_sample, rows=x.shape[0] // shift.shape[0])
    inputs = [(x, _row(x)), (shift, of_sample(shift)), (scale, of_sample(scale)), *_channels(factors)]
    return _over_rows(body, x.shape, inputs, [_values(x), _scales(x)])


@jax.jit
def add_norm_modulate_quantize(
    x: Float[Array, "M D"],
    added: Float[Array, "L D"],
    gate: Float[Array, "B D"] | None,
    shift: Float[Array, "B D"],
    scale: Float[Array, "B D"],
    factors: Float[Array, " D"] | None = None,
    epsilon: float = 1e-6,
) -> tuple[Float[Array, "M D"], Int8[Array, "M D"], Float[Array, " M"]]:
    """Return `x + gate * added`, and what `norm_modulate_quantize` makes of it.

    Without a gate it is `x + added`. If `added` has fewer rows than `x`, they are repeated.
    """

    def body(x_ref, added_ref, *refs):
        gate_refs, (shift_ref, scale_ref, *factors_refs) = refs[:gates], refs[gates:-3]
        sum_ref, values_ref, scales_ref = refs[-3:]
        pieces, rows = _pieces(x.shape[1]), []
        for piece in pieces:
            more = added_ref[piece]
            for gate_ref in gate_refs:
                more = gate_ref[piece] * more
            total = x_ref[piece] + more
            sum_ref[piece] = total
            rows.append(total.astype(jnp.float32))
        _quantize(_modulated(rows, pieces, shift_ref, scale_ref, epsilon), factors_refs, values_ref, scales_ref)

    gates = 0 if gate is None else 1
    of_sample = partial(_sample, rows=x.shape[0] // shift.shape[0])
    vectors = [leaf for leaf in (gate, shift, scale) if leaf is not None]
    repeated = pl.BlockSpec((None, x.shape[1]), lambda row: (lax.rem(row, added.shape[0]), 0))
    inputs = [(x, _row(x)), (added, repeated), *((leaf, of_sample(leaf)) for leaf in vectors)]
    inputs += _channels(factors)
    outputs = [(jax.ShapeDtypeStruct(x.shape, x.dtype), _row(x)), _values(x), _scales(x)]
    return _over_rows(body, x.shape, inputs, outputs)


@partial(jax.jit, static_argnames="epsilon")
def norm_rotate(
    x: Float[Array, "M N K"], gain: Float[Array, " K"], rotation: Float[Array, "2 L half_K"] | None, *, epsilon: float
) -> Float[Array, "M N K"]:
    """Return every head divided by its root mean square and times `gain`, and then rotated, unless that is None.

    It rounds where `rms_norm` and `apply_rotary` do. If there are fewer angles than tokens, they are repeated.
    """
    tokens, heads, width = x.shape
    half = width // 2

    def body(x_ref: Any, gain_ref: Any, *refs: Any) -> None:
        *rotation_refs, out_ref = refs
        gains = [gain_ref[index, :].astype(jnp.float32)[None] for index in range(2)]
        turns = [[rotation_ref[index, :][None] for index in range(2)] for rotation_ref in rotation_refs]
        for some in _pieces(heads):
            parts = [x_ref[some, index, :].astype(jnp.float32) for index in range(2)]
            square = sum(jnp.sum(part * part, axis=-1, keepdims=True) for part in parts) / width
            factor = lax.rsqrt(square + epsilon)
            first, second = (part * factor * gain for part, gain in zip(parts, gains, strict=True))
            for cos, sin in turns:
                first, second = (part.astype(x.dtype).astype(jnp.float32) for part in (first, second))
                first, second = first * cos - second * sin, second * cos + first * sin
            out_ref[some, 0, :] = first.astype(x.dtype)
            out_ref[some, 1, :] = second.astype(x.dtype)

    token = pl.BlockSpec((None, heads, 2, half), lambda row: (row, 0, 0, 0))
    inputs = [(x.reshape(tokens, heads, 2, half), token)]
    inputs.append((gain.reshape(2, half), pl.BlockSpec((2, half), lambda row: (0, 0))))
    if rotation is not None:
        inputs.append((rotation, pl.BlockSpec((2, None, half), lambda row: (0, lax.rem(row, rotation.shape[1]), 0))))
    outputs = [(jax.ShapeDtypeStruct((tokens, heads, 2, half), x.dtype), token)]
    (out,) = _over_rows(body, x.shape, inputs, outputs, warps=HEAD_WARPS)
    return out.reshape(x.shape)


def _over_rows(
    body: Callable[..., None], shape: tuple[int, ...], inputs: list[Any], outputs: list[Any], warps: int = WARPS
) -> Any:
    """Run `body` for every row; `inputs` are (array, blocks), `outputs` (shape, blocks)."""
    return pl.pallas_call(
        body,
        grid=(shape[0],),
        in_specs=[spec for _, spec in inputs],
        out_specs=[spec for _, spec in outputs],
        out_shape=[shape for shape, _ in outputs],
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
    )(*(array for array, _ in inputs))


def _row(x: Array) -> pl.BlockSpec:
    return pl.BlockSpec((None, x.shape[1]), lambda row: (row, 0))


def _sample(x: Array, rows: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, x.shape[1]), lambda row: (lax.div(row, rows), 0))


def _channels(factors: Array | None) -> list[tuple[Array, pl.BlockSpec]]:
    """Return the input that has a factor for every channel, the same for all rows; none without factors."""
    if factors is None:
        return []
    return [(factors[None], pl.BlockSpec((None, factors.shape[0]), lambda row: (0, 0)))]


def _values(x: Array) -> tuple[jax.ShapeDtypeStruct, pl.BlockSpec]:
    return jax.ShapeDtypeStruct(x.shape, jnp.int8), _row(x)


def _scales(x: Array) -> tuple[jax.ShapeDtypeStruct, pl.BlockSpec]:
    return jax.ShapeDtypeStruct(x.shape[:1], jnp.float32), pl.BlockSpec((1,), lambda row: (row,))


def _pieces(width: int) -> list[pl.Slice]:
    """Return a row or heads in pieces: the compiler has arrays of a power of two alone; 5,120 is 4,096 and 1,024."""
    pieces, start = [], 0
    for bit in reversed(range(width.bit_length())):
        if width & 1 << bit:
            pieces.append(pl.ds(start, 1 << bit))
            start += 1 << bit
    return pieces


def _modulated(
    rows: list[Array], pieces: list[pl.Slice], shift_ref: Any, scale_ref: Any, epsilon: float
) -> list[Array]:
    width = sum(row.size for row in rows)
    mean = sum(jnp.sum(row) for row in rows) / width
    rows = [row - mean for row in rows]
    factor = lax.rsqrt(sum(jnp.sum(row * row) for row in rows) / width + epsilon)
    return [
        row * factor * (1 + scale_ref[piece].astype(jnp.float32)) + shift_ref[piece].astype(jnp.float32)
        for row, piece in zip(rows, pieces, strict=True)
    ]


def _quantize(rows: list[Array], factors_refs: Any, values_ref: Any, scale_ref: Any) -> None:
    """Write a row in 8 bits and its scale; `factors_refs` has one for its factors, or none."""
    pieces = _pieces(values_ref.shape[0])
    for factors_ref in factors_refs:
        rows = [row * factors_ref[piece].astype(jnp.float32) for row, piece in zip(rows, pieces, strict=True)]
    largest: Any = SMALLEST_RANGE
    for row in rows:
        largest = jnp.maximum(largest, jnp.max(jnp.abs(row)))
    scale = largest / LARGEST
    for row, piece in zip(rows, pieces, strict=True):
        values_ref[piece] = (row * (1 / scale) + TO_INTEGER - TO_INTEGER).astype(jnp.int8)
    # A maximum passes over what is not a number; a sum does not.
    not_finite = sum(jnp.sum(row * 0) for row in rows)
    scale_ref[...] = jnp.broadcast_to(scale + not_finite, scale_ref.shape)
