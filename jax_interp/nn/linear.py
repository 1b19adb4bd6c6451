"""Linear layers without bias, with random weights that keep activations near unit scale."""

from flax import nnx
from jax.typing import DTypeLike

from jax_interp.config import Quantization
from jax_interp.nn.quantization import WeightOnlyLinear


def plain_linear(inputs: int, outputs: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Linear:
    """Return a linear layer whose weight is in `dtype`."""
    init = nnx.initializers.normal(inputs**-0.5)
    return nnx.Linear(inputs, outputs, use_bias=False, param_dtype=dtype, kernel_init=init, rngs=rngs)


def weight_only_linear(
    inputs: int, outputs: int, *, dtype: DTypeLike, rngs: nnx.Rngs, quantization: Quantization = "none"
) -> nnx.Linear | WeightOnlyLinear:
    """Return a linear layer whose weight is in `dtype`, or in the integers of `quantization`."""
    if quantization == "none":
        return plain_linear(inputs, outputs, dtype=dtype, rngs=rngs)
    return WeightOnlyLinear(inputs, outputs, rngs=rngs)
