"""Folding the factors of a calibration into a network's weights, block by block, before they are quantised.

The input channels of a product are multiplied by factors, and the rows of its weight divided by them. Factors are
powers of two, so that nothing is rounded. They are arrays of the network, which applies them as it quantises the input,
except where the input is the output of an attention: there the columns of the weight that makes the values have them.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from jax_interp.nn.params import flatten
from jax_interp.nn.quantization import FACTORS, FOLDED, KERNEL
from jax_interp.runtime.checkpoint.calibration import Factors
from jax_interp.runtime.checkpoint.quantizing import quantized_layers
from jax_interp.types import Params

BLOCKS = "blocks/"
"""The prefix of the paths of stacked arrays."""


class Smoothing:
    """The factors of a network, and which of its weights they change."""

    def __init__(self, abstract: Params, factors: Factors):
        """Sort `factors` by the arrays that they change; `abstract` are the parameters of the smoothed network.

        Raises:
            ValueError: there are factors for other products than the network has, of another shape, or that are no
                powers of two.
        """
        layers = quantized_layers(abstract)
        expected = {product_name(layer.kernel): (layer.shape[0], layer.shape[-1]) for layer in layers}
        given = {product: array.shape for product, array in factors.items()}
        if given != expected:
            raise ValueError(f"factors of the shapes {given}, expected {expected}")
        if faults := [product for product, array in factors.items() if not are_factors(array)]:
            raise ValueError(f"factors of {', '.join(faults)} that are no powers of two")
        self._factors = factors
        self._divided = {path: product_name(layer.kernel) for layer in layers for path in layer.sources}
        paths = {path for path, _ in flatten(abstract)}
        self.applied = {path: product for product in expected if (path := factors_path(product)) in paths}
        """The products whose factors the network applies itself, by the path of these factors."""
        self._multiplied = {
            _folded_into(product): product for product in expected if factors_path(product) not in paths
        }

    @property
    def changed(self) -> set[str]:
        """The paths of the weights that `weight` changes."""
        return {*self._divided, *self._multiplied}

    def weight(
        self, path: str, values: Float[np.ndarray, "I O"], block: int, *, in_place: bool = False
    ) -> Float[np.ndarray, "I O"]:
        """Return the unquantised weight `path` of a block with all factors that concern it, in `folded_dtype`.

        With `in_place` float32 `values` are overwritten, which saves the time that fresh memory takes.
        """
        divisors, factors = self._of(self._divided, path, block), self._of(self._multiplied, path, block)
        if divisors is None and factors is None:
            return values.astype(folded_dtype(values.dtype), copy=False)
        changed, out = values, values if in_place and values.dtype == np.float32 else None
        if divisors is not None:
            changed = np.divide(changed, divisors[:, None], out=out, dtype=np.float32)
        if factors is not None:
            changed = np.multiply(changed, factors, out=out, dtype=np.float32)
        return changed.astype(folded_dtype(values.dtype), copy=False)

    def _of(self, products: Mapping[str, str], path: str, block: int) -> Float[np.ndarray, " I"] | None:
        """Return the factors of the product of `path` in `products`; None if there are none, or all are 1."""
        if (product := products.get(path)) is None:
            return None
        factors = self._factors[product][block]
        return None if (factors == 1).all() else factors

    def array(self, path: str) -> Float[np.ndarray, "blocks I"]:
        """Return the factors that are the array `path` of the network, one of `applied`, for all blocks."""
        return np.asarray(self._factors[self.applied[path]], np.float32)


def folded_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype that holds weights of `dtype` with any factors exactly; float16 has too few exponents."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def product_name(kernel: str) -> str:
    """Return the name within a block of the product whose integers have the path `kernel`."""
    return kernel.removeprefix(BLOCKS).removesuffix(f"/{KERNEL}")


def factors_path(product: str) -> str:
    """Return the path of the factors of a product that applies them itself."""
    return f"{BLOCKS}{product}/{FACTORS}"


def are_factors(array: np.ndarray) -> bool:
    """Tell whether all values are powers of two."""
    values = np.asarray(array, np.float32)
    mantissas, _ = np.frexp(values)
    return bool((np.isfinite(values) & (mantissas == 0.5)).all())


def _folded_into(product: str) -> str:
    parent, _, name = product.rpartition("/")
    return f"{BLOCKS}{parent}/{FOLDED[name]}/kernel"
