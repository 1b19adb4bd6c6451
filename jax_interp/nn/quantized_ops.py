"""What makes the inputs of a block's large products, plain or in 8 bits.

A block calls these by `TOKEN_OPS[quantization]`. In 8 bits each quantises once for all products that read its result,
and on Hopper GPUs each is one kernel (`row_kernels`), which computes the same but for the order of its sums. Channels
are multiplied by `factors` first where a calibration chose some. What is rotated before (`group` is not 1) is quantised
by XLA, since the kernels know no rotation.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jax_interp.config import Quantization
from jax_interp.nn.activations import gelu
from jax_interp.nn.kernels.check import works
from jax_interp.nn.norms import RMSNorm, layer_norm
from jax_interp.nn.quantization import QuantizedTokens, Reduce, quantize_tokens
from jax_interp.nn.rotary import apply_rotary
from jax_interp.types import Tokens

PerSample: TypeAlias = Float[Array, "B 1 D"]
Added: TypeAlias = Float[Array, "*B L D"]
"""What is added to tokens, the same for all samples if it has no such axis."""
Modulation: TypeAlias = Callable[[], Any]
"""Returns the shift, the scale and the gate of a modulation."""
Factors: TypeAlias = Float[Array, " K"] | None
"""What input channels are multiplied by before they are quantised."""
Heads: TypeAlias = Float[Array, "B L N K"]
Rotation: TypeAlias = Float[Array, "2 *B L half_K"]


class TokenOps(NamedTuple):
    """The operations before a block's large products; `across`, `group`, `factors` are those of `quantize_tokens`."""

    tokens: Callable[..., Any]
    """`tokens(x, across=None, group=1)`: the input of a product, made of `x`."""
    modulate: Callable[..., Any]
    """`modulate(x, shift, scale, group=1, factors=None)`: the layer norm of `x`, modulated."""
    add_modulate: Callable[..., Any]
    """`add_modulate(x, gate, added, modulation, group=1, factors=None)`: `x + gate * added`, that modulated, and the
    gate that comes after it. `modulation()` gives shift, scale and gate. Without a gate the sum is `x + added`."""
    heads: Callable[..., Any]
    """`heads(x, norm, rotation)`: queries or keys of all heads, normalised and, if there is a rotation, rotated."""
    hidden: Callable[..., Any]
    """`hidden(up, x, across=None, group=1, factors=None)`: the exact GELU of what the layer `up` makes of `x`."""


def modulate(x: Tokens, shift: PerSample, scale: PerSample) -> Tokens:
    """Normalise `x`, scale it by `1 + scale` and add `shift` (adaptive layer norm)."""
    return layer_norm(x) * (1 + scale) + shift


def plain_tokens(x: Tokens, across: Reduce | None = None, group: int = 1) -> Tokens:
    """Return `x`."""
    del across, group  # nothing is quantised
    return x


def plain_modulate(x: Tokens, shift: PerSample, scale: PerSample, group: int = 1, factors: Factors = None) -> Tokens:
    """Return `modulate(x, shift, scale)`."""
    del group, factors  # nothing is quantised
    return modulate(x, shift, scale)


def plain_add_modulate(
    x: Tokens, gate: PerSample | None, added: Added, modulation: Modulation, group: int = 1, factors: Factors = None
) -> tuple[Tokens, Tokens, PerSample]:
    """Return `x + gate * added`, that modulated, and the gate that comes after it; see `TokenOps`."""
    del group, factors  # nothing is quantised
    total = x + (added if gate is None else gate * added)
    shift, scale, next_gate = modulation()
    return total, modulate(total, shift, scale), next_gate


def plain_heads(x: Heads, norm: RMSNorm, rotation: Rotation | None) -> Heads:
    """Return `norm(x)`, rotated if there is a rotation."""
    x = norm(x)
    return x if rotation is None else apply_rotary(x, rotation)


def plain_hidden(
    up: nnx.Module, x: Tokens, across: Reduce | None = None, group: int = 1, factors: Factors = None
) -> Float[Array, "B L H"]:
    """Return the GELU of `up(x)`."""
    del across, group, factors  # nothing is quantised
    return gelu(up(x))  # type: ignore[operator]


def quantized_tokens(
    x: Tokens, across: Reduce | None = None, group: int = 1, factors: Factors = None
) -> QuantizedTokens:
    """Return `x`, quantised; where `across` is given, `x` has some of the channels alone."""
    if across is None and group == 1 and row_kernels_available(with_factors=factors is not None):
        from jax_interp.nn.kernels.row_kernels import quantize_rows

        values, scales = quantize_rows(_rows(x), factors)
        return _of_rows(values, scales, x)
    return quantize_tokens(x, across, group=group, factors=factors)


def quantized_modulate(
    x: Tokens, shift: PerSample, scale: PerSample, group: int = 1, factors: Factors = None
) -> QuantizedTokens:
    """Return `modulate(x, shift, scale)` in float32, quantised."""
    if group == 1 and row_kernels_available(with_factors=factors is not None):
        from jax_interp.nn.kernels.row_kernels import norm_modulate_quantize

        values, scales = norm_modulate_quantize(_rows(x), shift[:, 0], scale[:, 0], factors)
        return _of_rows(values, scales, x)
    return quantize_tokens(modulate(_wide(x), _wide(shift), _wide(scale)), group=group, factors=factors)


def quantized_add_modulate(
    x: Tokens, gate: PerSample | None, added: Added, modulation: Modulation, group: int = 1, factors: Factors = None
) -> tuple[Tokens, QuantizedTokens, PerSample]:
    """Return what `plain_add_modulate` does, the second quantised."""
    shift, scale, next_gate = modulation()
    if group == 1 and row_kernels_available(with_factors=factors is not None):
        from jax_interp.nn.kernels.row_kernels import add_norm_modulate_quantize

        vectors = None if gate is None else gate[:, 0], shift[:, 0], scale[:, 0]
        total, values, scales = add_norm_modulate_quantize(_rows(x), _rows(added), *vectors, factors)
        return total.reshape(x.shape), _of_rows(values, scales, x), next_gate
    total = x + (added if gate is None else gate * added)
    return total, quantized_modulate(total, shift, scale, group, factors), next_gate


def fused_heads(x: Heads, norm: RMSNorm, rotation: Rotation | None) -> Heads:
    """Return what `plain_heads` does, on Hopper GPUs by one kernel."""
    if x.shape[-1] % 4 or not row_kernels_available():
        return plain_heads(x, norm, rotation)
    from jax_interp.nn.kernels.row_kernels import norm_rotate

    tokens = x.reshape(-1, *x.shape[-2:])
    angles = None if rotation is None else rotation.reshape(2, -1, rotation.shape[-1])
    return norm_rotate(tokens, norm.scale[...], angles, epsilon=norm.epsilon).reshape(x.shape)


def quantized_hidden(
    up: Any, x: QuantizedTokens, across: Reduce | None = None, group: int = 1, factors: Factors = None
) -> QuantizedTokens:
    """Return the GELU of `up(x)`, which the product applies before it rounds, quantised."""
    return quantized_tokens(up(x, gelu=True), across, group, factors)


@cache
def row_kernels_available(*, with_factors: bool = False) -> bool:
    """Tell whether the kernels of `row_kernels` run here, by running them once on small inputs.

    They are other kernels `with_factors`, which may fail by themselves.
    """
    if with_factors:
        what = "a kernel for quantising with factors on Hopper"
        return row_kernels_available() and works(what, "XLA's", _factor_kernels_are_right)
    return works("a kernel for quantising on Hopper", "XLA's", _row_kernels_are_right)


def _row_kernels_are_right() -> bool:
    """Compare the kernels with the plain functions, for two samples and a width that is no power of two."""
    from jax_interp.nn.kernels.row_kernels import add_norm_modulate_quantize, quantize_rows

    x, added, gate, shift, scale = _inputs()
    total, *sums = add_norm_modulate_quantize(x, added, gate, shift, scale)
    expected_total = x.reshape(2, 3, -1) + gate[:, None] * added.reshape(2, 3, -1)
    modulated = modulate(_wide(expected_total), _wide(shift[:, None]), _wide(scale[:, None]))
    return bool(
        (total == expected_total.reshape(x.shape)).all()
        and _agree(sums, quantize_tokens(modulated), 1e-5)
        and _agree(quantize_rows(x), quantize_tokens(x), 0)
    )


def _factor_kernels_are_right() -> bool:
    """Compare the kernels that multiply channels by factors with the plain functions, as `_row_kernels_are_right`."""
    from jax_interp.nn.kernels.row_kernels import add_norm_modulate_quantize, norm_modulate_quantize, quantize_rows

    x, added, gate, shift, scale = _inputs()
    exponents = jax.random.randint(jax.random.key(1), x.shape[1:], -6, 7)
    factors = jnp.exp2(exponents.astype(jnp.float32)).astype(jnp.bfloat16)
    total, *sums = add_norm_modulate_quantize(x, added, gate, shift, scale, factors)
    modulated = modulate(_wide(total.reshape(2, 3, -1)), _wide(shift[:, None]), _wide(scale[:, None]))
    expected = quantize_tokens(modulated, factors=factors)
    return (
        _agree(sums, expected, 1e-5)
        and _agree(norm_modulate_quantize(total, shift, scale, factors), expected, 1e-5)
        and _agree(quantize_rows(x, factors), quantize_tokens(x, factors=factors), 0)
    )


def _inputs() -> list[Array]:
    """Return rows of two samples, what is added to them, gate, shift and scale."""
    keys = jax.random.split(jax.random.key(0), 5)
    shapes = [(6, 320)] * 2 + [(2, 320)] * 3
    return [jax.random.normal(key, shape, jnp.bfloat16) for key, shape in zip(keys, shapes, strict=True)]


def _agree(ours: Sequence[Array], expected: QuantizedTokens, tolerance: float) -> bool:
    """Tell whether scales are equal within a relative `tolerance`, and integers but for one step."""
    values, scales = ours
    steps = jnp.abs(_integers(values) - _integers(expected.values.reshape(values.shape)))
    return bool(jnp.allclose(scales, expected.scale.reshape(-1), rtol=tolerance, atol=0) and (steps <= 1).all())


def _wide(x: Array) -> Array:
    return x.astype(jnp.float32)


def _integers(values: Array) -> Array:
    return values.astype(jnp.int32)


def _rows(x: Tokens) -> Float[Array, "M D"]:
    return x.reshape(-1, x.shape[-1])


def _of_rows(values: Array, scale: Array, like: Tokens) -> QuantizedTokens:
    return QuantizedTokens(values.reshape(like.shape), scale.reshape(like.shape[:-1]))


_QUANTIZED = TokenOps(quantized_tokens, quantized_modulate, quantized_add_modulate, fused_heads, quantized_hidden)

TOKEN_OPS: dict[Quantization, TokenOps] = {
    "none": TokenOps(plain_tokens, plain_modulate, plain_add_modulate, plain_heads, plain_hidden),
    "int8": _QUANTIZED,
    "int8-rotated": _QUANTIZED,
    "int8-smoothed": _QUANTIZED,
}
"""The operations by the quantisation of the products that follow them."""
