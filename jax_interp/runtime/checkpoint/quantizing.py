"""Quantisation of a network's weights as they are read: which stored arrays become which layers in 8 bits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_interp.config import Quantization
from jax_interp.nn.params import flatten, unflatten
from jax_interp.nn.quantization import FACTORS, JOINED, KERNEL, SCALE, SPLIT_INPUTS, quantize_kernel, rotation_group
from jax_interp.types import Params


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer in 8 bits of a stack of blocks, for example that of `blocks/self_attention/qkv`."""

    kernel: str
    """The path of its integers."""
    scale: str
    """The path of its scales."""
    sources: tuple[str, ...]
    """The paths of the unquantised weights that it is made of."""
    shape: tuple[int, ...]
    """The shape of its integers, for all blocks together: [blocks, (parts,) out, in]."""
    group: int = 1
    """How many neighbouring input channels are rotated together before they are quantised; 1 for no rotation."""

    def quantize(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the arrays of this layer for one block, made of the unquantised float32 weights in `arrays`.

        Raises:
            ValueError: a weight has values that are not finite; names it.
        """
        pairs = []
        for path in self.sources:
            try:
                pairs.append(quantize_kernel(arrays[path], group=self.group))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        kernels, scales = zip(*pairs, strict=True)
        if len(self.shape) == 3:
            return {self.kernel: kernels[0], self.scale: scales[0]}
        return {self.kernel: np.stack(kernels), self.scale: np.stack(scales)}


def quantized_layers(
    abstract: Params, quantization: Quantization = "int8", config: Any = None
) -> tuple[QuantizedLayer, ...]:
    """Return the layers in 8 bits of a network with the parameters `abstract`.

    `config` is the network's, of which "int8-rotated" needs the number of heads.
    """
    heads = config.num_heads if quantization == "int8-rotated" else 1
    return tuple(
        _layer(path.removesuffix(f"/{KERNEL}"), tuple(leaf.shape), quantization, heads)
        for path, leaf in flatten(abstract)
        if path.endswith(f"/{KERNEL}")
    )


def unquantized(abstract: Params) -> Params:
    """Return the abstract parameters of the network of which `abstract` has some in 8 bits; dtypes mean nothing."""
    leaves: dict[str, Any] = {path: leaf for path, leaf in flatten(abstract) if not path.endswith(f"/{FACTORS}")}
    for layer in quantized_layers(abstract):
        del leaves[layer.kernel], leaves[layer.scale]
        blocks, *_, outputs, inputs = layer.shape
        for path in layer.sources:
            leaves[path] = jax.ShapeDtypeStruct((blocks, inputs, outputs), jnp.float32)
    return unflatten(leaves)


def faulty_scales(arrays: Mapping[str, np.ndarray], layers: tuple[QuantizedLayer, ...]) -> list[str]:
    """Return the paths of scales in `arrays` that no quantisation gives: not finite, negative or zero."""
    scales = {layer.scale for layer in layers} & arrays.keys()
    return sorted(path for path in scales if not (np.isfinite(arrays[path]) & (arrays[path] > 0)).all())


def _layer(path: str, shape: tuple[int, ...], quantization: Quantization, heads: int) -> QuantizedLayer:
    parent, _, name = path.rpartition("/")
    sources = tuple(f"{parent}/{source}/kernel" for source in JOINED.get(name, (name,)))
    group = rotation_group(quantization, shape[-1], heads if name in SPLIT_INPUTS else 1)
    return QuantizedLayer(f"{path}/{KERNEL}", f"{path}/{SCALE}", sources, shape, group)
