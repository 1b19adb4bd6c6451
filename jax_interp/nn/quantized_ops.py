"""The operations that make the inputs of a block's large products, plain or quantised.

A block calls them by `TOKEN_OPS[quantization]`. Each quantised one quantises once for all products that read its
result, so that a kernel which does both in one pass has one place to go to.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from jax_interp.config import Quantization
from jax_interp.nn.activations import gelu
from jax_interp.nn.norms import layer_norm
from jax_interp.nn.quantization import QuantizedTokens, Reduce, quantize_tokens
from jax_interp.types import Tokens


class TokenOps(NamedTuple):
    """The operations before a block's large products; `across` is that of `quantize_tokens`."""

    tokens: Callable[..., Any]
    """`tokens(x, across=None)`: the input of a product, made of `x`."""
    modulate: Callable[..., Any]
    """`modulate(x, shift, scale)`: the layer norm of `x`, modulated."""
    gelu: Callable[..., Any]
    """`gelu(x, across=None)`: the exact GELU of `x`."""


def modulate(x: Tokens, shift: Float[Array, "B 1 D"], scale: Float[Array, "B 1 D"]) -> Tokens:
    """Normalise `x`, scale it by `1 + scale` and add `shift` (adaptive layer norm)."""
    return layer_norm(x) * (1 + scale) + shift


def plain_tokens(x: Tokens, across: Reduce | None = None) -> Tokens:
    """Return `x`."""
    del across  # nothing is quantised
    return x


def plain_gelu(x: Tokens, across: Reduce | None = None) -> Tokens:
    """Return `gelu(x)`."""
    del across  # nothing is quantised
    return gelu(x)


def quantized_modulate(x: Tokens, shift: Float[Array, "B 1 D"], scale: Float[Array, "B 1 D"]) -> QuantizedTokens:
    """Return `modulate(x, shift, scale)`, quantised."""
    return quantize_tokens(modulate(x, shift, scale))


def quantized_gelu(x: Tokens, across: Reduce | None = None) -> QuantizedTokens:
    """Return `gelu(x)`, quantised."""
    return quantize_tokens(gelu(x), across)


TOKEN_OPS: dict[Quantization, TokenOps] = {
    "none": TokenOps(plain_tokens, modulate, plain_gelu),
    "int8": TokenOps(quantize_tokens, quantized_modulate, quantized_gelu),
}
"""The operations by the quantisation of the products that follow them."""
