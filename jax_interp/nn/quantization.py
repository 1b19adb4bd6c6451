"""Linear layers in 8 bits: weights with a scale per output channel, activations with a scale per token.

A value is its integer from -127 to 127 times the scale, which is the largest magnitude of the channel or token divided
by 127 (symmetric quantisation). Weights are stored [out, in], because the 8-bit tensor cores take no other order.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int8

from jax_interp.config import Quantization
from jax_interp.nn.hadamard import group_width, rotate_channels, rotate_rows
from jax_interp.nn.int8_matmul import int8_matmul

LARGEST = 127
"""The largest magnitude of a quantised value; -128 is not used."""
SMALLEST_RANGE = 1e-30
"""The smallest magnitude that a token or channel is quantised for: a row of zeros has a scale above zero, and the
scale is no denormal number, which GPUs take for zero."""
KERNEL, SCALE, FACTORS = "int8_kernel", "scale", "factors"
"""The names of a layer's arrays. The integers are not called `kernel`, which is a weight stored [in, out]. Factors are
those of the input channels of a smoothed layer."""
JOINED = {"qkv": ("query", "key", "value")}
"""Layers that are one product in 8 bits, with the layers of the unquantised network that they consist of."""
FOLDED = {"out": "value"}
"""Layers whose factors are no arrays of theirs, with the layers whose output channels have them instead: an attention
averages values over tokens, so that a factor of a channel passes through it."""
SPLIT_INPUTS = ("out", "down")
"""Layers whose inputs are heads or hidden units, which the `tensor` axis of a mesh splits."""

_COLUMNS = 256
"""The number of output channels that one thread quantises at a time."""

Reduce: TypeAlias = Callable[[Array], Array]
"""A function that returns the largest of the values that several devices have for the same tokens."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QuantizedTokens:
    """Tokens in 8 bits. Indexing takes tokens, as `tokens[:, 4:]`."""

    values: Int8[Array, "*tokens K"]
    scale: Float[Array, "*tokens"]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values."""
        return self.values.shape

    def __getitem__(self, index: Any) -> "QuantizedTokens":
        return QuantizedTokens(self.values[index], self.scale[index])


def rotation_group(quantization: Quantization, channels: int, splits: int = 1) -> int:
    """Return the group of `quantize_tokens` for products of that many input channels; 1 if they are not rotated."""
    return group_width(channels, splits) if quantization == "int8-rotated" else 1


def quantize_tokens(
    x: Float[Array, "*tokens K"],
    across: Reduce | None = None,
    *,
    group: int = 1,
    factors: Float[Array, " K"] | None = None,
) -> QuantizedTokens:
    """Quantise every token of `x` with a scale of its own, in float32, rounding half to even.

    Every `group` neighbouring channels are rotated before, unless that is 1, and channels are multiplied by `factors`,
    if there are any. Where `x` has only some channels of each token, `across` returns the maximum over the devices that
    have the others.
    A token with a value that is not finite has a scale that is not, which shows in every product.
    """
    wide = x.astype(jnp.float32) if group == 1 else rotate_channels(x, group)
    if factors is not None:
        wide = wide * factors.astype(jnp.float32)
    largest = jnp.abs(wide).max(-1)
    scale = jnp.maximum(largest if across is None else across(largest), SMALLEST_RANGE) / LARGEST
    return QuantizedTokens(jnp.round(wide * (1 / scale)[..., None]).astype(jnp.int8), scale)


def quantize_kernel(
    kernel: Float[np.ndarray, "I O"], *, group: int = 1
) -> tuple[Int8[np.ndarray, "O I"], Float[np.ndarray, " O"]]:
    """Quantise a float32 weight with a scale for every output channel, and transpose it.

    Every `group` neighbouring input channels are rotated before, unless that is 1. Host memory beyond `kernel`
    and the result is a few MiB a core.

    Raises:
        ValueError: the weight has values that are not finite.
    """
    inputs, outputs = kernel.shape
    values, scale = np.empty((outputs, inputs), np.int8), np.empty(outputs, np.float32)

    def some(start: int) -> None:
        columns = slice(start, start + _COLUMNS)
        rows = np.ascontiguousarray(kernel[:, columns].T)
        if group > 1 and np.isfinite(rows).all():
            rows = rotate_rows(rows, group)
        scale[columns] = np.maximum(np.abs(rows).max(-1, initial=0), np.float32(SMALLEST_RANGE)) / np.float32(LARGEST)
        if not np.isfinite(scale[columns]).all():
            raise ValueError("values that are not finite have no scale")
        rows /= scale[columns, None]
        values[columns] = np.rint(rows, out=rows)

    with ThreadPoolExecutor() as threads:
        list(threads.map(some, range(0, outputs, _COLUMNS)))
    return values, scale


class QuantizedLinear(nnx.Module):
    """A linear layer without bias whose weight is in 8 bits, and whose product is one of integers.

    With `parts` it stands for that many layers of the same size with a common input. The result is in `dtype`. An input
    that is not in 8 bits yet is quantised with `group` and, if the layer is `smoothed`, with its `input_factors`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        parts: int | None = None,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
        group: int = 1,
        smoothed: bool = False,
    ):
        self.dtype, self.parts, self.group, self.smoothed = dtype, parts, group, smoothed
        shape = (outputs,) if parts is None else (parts, outputs)
        self.int8_kernel, self.scale = _random_kernel(shape, inputs, rngs)
        if smoothed:
            self.factors = nnx.Param(jnp.ones(inputs, dtype))

    @property
    def input_factors(self) -> Float[Array, " I"] | None:
        """What the channels of the input are multiplied by before they are quantised; None if by nothing."""
        return self.factors[...] if self.smoothed else None

    def __call__(self, x: Float[Array, "*tokens I"] | QuantizedTokens, *, gelu: bool = False) -> Any:
        """Return the product, [*tokens, O], or a tuple of one for each of the `parts`.

        With `gelu` it is the exact GELU of that, which is applied before the one rounding.
        """
        tokens = (
            x if isinstance(x, QuantizedTokens) else quantize_tokens(x, group=self.group, factors=self.input_factors)
        )
        kernel, scale = self.int8_kernel[...], self.scale[...]
        inputs = kernel.shape[-1]
        products = int8_matmul(
            tokens.values.reshape(-1, inputs),
            tokens.scale.reshape(-1),
            kernel.reshape(-1, inputs),
            scale.reshape(-1),
            self.dtype,
            parts=1 if self.parts is None else self.parts,
            gelu=gelu,
        )
        shaped = tuple(product.reshape(*tokens.shape[:-1], -1) for product in products)
        return shaped[0] if self.parts is None else shaped


class WeightOnlyLinear(nnx.Module):
    """A linear layer without bias whose weight is in 8 bits, and whose product is computed in the dtype of its input.

    It halves the bytes that a product reads, which is what the time of few tokens goes to.
    """

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.int8_kernel, self.scale = _random_kernel((outputs,), inputs, rngs)

    def __call__(self, x: Float[Array, "*tokens I"]) -> Float[Array, "*tokens O"]:
        kernel = self.int8_kernel[...]
        if x.size == x.shape[-1]:
            # A single token: multiplied and summed in one pass over the integers, which a product of matrices would
            # first convert and write.
            sums = (x.reshape(1, -1).astype(jnp.float32) * kernel.astype(jnp.float32)).sum(-1)
            sums = sums.reshape(*x.shape[:-1], -1)
        else:
            sums = jnp.einsum("...i,oi->...o", x, kernel.astype(x.dtype), preferred_element_type=jnp.float32)
        return (sums * self.scale[...]).astype(x.dtype)


def _random_kernel(shape: tuple[int, ...], inputs: int, rngs: nnx.Rngs) -> tuple[nnx.Param, nnx.Param]:
    """Return integers and scales of about the size that keeps activations near unit scale."""
    values = jax.random.randint(rngs.params(), (*shape, inputs), -LARGEST, LARGEST + 1, jnp.int8)
    deviation = LARGEST / 3**0.5
    return nnx.Param(values), nnx.Param(jnp.full(shape, inputs**-0.5 / deviation, jnp.float32))
