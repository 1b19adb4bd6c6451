"""The transformer run on several inputs block by block, noting what goes into its large products."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_interp.models.dit import DiTBlock, DiTBlockInputs
from jax_interp.nn.params import flatten
from jax_interp.nn.quantization import JOINED
from jax_interp.pipeline.stages import cells
from jax_interp.pipeline.stages.cells import CELLS_SPEC, SHARED_SPECS, Cells
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.runtime.block_stream import PartCall, PartResult
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.quantizing import quantized_layers
from jax_interp.runtime.checkpoint.smoothing import product_name
from jax_interp.runtime.placement import Placement
from jax_interp.types import Params

ROWS = 64
"""The tokens of an evaluation whose inputs of products are kept."""


class ProductInputs(NamedTuple):
    """What went into a product, of all tokens and evaluations."""

    largest: Float[np.ndarray, " I"]
    """The largest magnitude of every channel."""
    rows: Float[np.ndarray, "R I"]
    """The inputs of some tokens of every evaluation."""


class Evaluation(NamedTuple):
    """The arguments of one evaluation of the network, as `DiT.embed` takes them."""

    x: Float[Array, "1 T H W C"]
    c_noise: Float[Array, " 1"]
    text: Float[Array, "1 S D"]
    mask: Float[Array, "1 T H W 1"]
    padding_mask: Float[Array, "1 T H W 1"]
    angles: Float[Array | np.ndarray, "L half_K"]


Noted = Callable[[int, Params, Mapping[str, ProductInputs]], None]
"""A callable that gets the number of a block, the float32 parameters of one of its parts, and the inputs of the
products of that part by their names."""


class RecordingDenoiser(Denoiser):
    """The transformer in float32 on one device. Every part of a block is read once, for all evaluations.

    Only the parts that run next and one residual stream are on the device; those of other evaluations wait in host
    memory.
    """

    KEEP_ON_HOST = ()

    def __init__(self, converted: ConvertedComponent):
        super().__init__(converted, "float32")
        self.place(Placement("streamed"))
        smoothed = self.structure(self.config, self.precision, "int8-smoothed").abstract
        self.products = tuple(product_name(layer.kernel) for layer in quantized_layers(smoothed))
        """The names of the products within a block."""
        programs = (partial(_noting, each, self.products, self.devices) for each in (cells.attend, cells.transform))
        self._noting = [
            self.compile_part(part, program, CELLS_SPEC, SHARED_SPECS, donate=False, static_argnames="cells")
            for part, program in enumerate(programs)
        ]

    def record(self, evaluations: Sequence[Evaluation], noted: Noted) -> None:
        """Run all blocks on all of `evaluations`, and call `noted` when a part of a block has run on all of them."""
        with self.numerics():
            begun: list[np.ndarray] = []
            shared: list[DiTBlockInputs] = []
            for each in evaluations:
                stream, inputs = self._embed(self.outer, *self.devices.put(tuple(each)))
                begun.append(np.asarray(stream))
                shared.append(inputs)
            counts = [self.num_cells(each.x.shape) for each in evaluations]

            def apply(call: PartCall, streams: list[np.ndarray]) -> PartResult[list[np.ndarray]]:
                static = [{"cells": count} if call.part == 0 else {} for count in counts]
                results = [
                    jax.device_get(self._noting[call.part](call.params, stream, inputs, None, **named).state)
                    for stream, inputs, named in zip(streams, shared, static, strict=True)
                ]
                notes = [found for _, found in results]
                together = {product: _together([each[product] for each in notes]) for product in notes[0]}
                noted(call.block, call.params, together)
                return PartResult([stream for stream, _ in results], jnp.zeros(1))

            try:
                self.run_blocks(apply, begun)
            finally:
                self.unload()

    def weight(self, params: Params, product: str) -> Float[Array, "I O"]:
        """Return the weight of a product, one of those of the part that `params` are of."""
        parent, _, name = product.rpartition("/")
        leaves = dict(flatten(params))
        return jnp.concatenate([leaves[f"{parent}/{source}/kernel"] for source in JOINED.get(name, (name,))], axis=1)


class _Noting:
    """A layer that notes its input under the name of a product."""

    def __init__(self, layer: Any, notes: dict[str, ProductInputs], product: str):
        self._layer, self._notes, self._product = layer, notes, product

    def __call__(self, x: Array) -> Array:
        rows = x.reshape(-1, x.shape[-1])
        chosen = np.linspace(0, len(rows) - 1, min(ROWS, len(rows)), dtype=np.int32)
        self._notes[self._product] = ProductInputs(jnp.abs(rows).max(0), rows[chosen])  # pyright: ignore
        return self._layer(x)


def _noting(
    run: Callable[..., Cells],
    products: Sequence[str],
    devices: Any,
    block: DiTBlock,
    x: Cells,
    shared: DiTBlockInputs,
    **static: Any,
) -> tuple[Cells, dict[str, ProductInputs]]:
    """Apply `run`, a part of a block, and return the stream with what went into the products of that part."""
    notes: dict[str, ProductInputs] = {}
    for product in products:
        parent, _, name = product.rpartition("/")
        module, layer = getattr(block, parent), JOINED.get(name, (name,))[0]
        setattr(module, layer, _Noting(getattr(module, layer), notes, product))
    return run(block, x, shared, devices=devices, **static), notes


def _together(notes: Sequence[ProductInputs]) -> ProductInputs:
    return ProductInputs(
        np.max([each.largest for each in notes], axis=0), np.concatenate([each.rows for each in notes])
    )
