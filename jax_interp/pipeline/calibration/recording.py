"""The transformer run on several inputs block by block, noting what goes into its large products."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_interp.models.dit import DiTBlock, DiTBlockInputs
from jax_interp.nn.attention import attention, cudnn_available, fits_flash, flash_available
from jax_interp.nn.params import flatten
from jax_interp.nn.quantization import JOINED
from jax_interp.pipeline.calibration.compiling import Quick, without_trials
from jax_interp.pipeline.stages import cells
from jax_interp.pipeline.stages.cells import CELLS_SPEC, SHARED_SPECS, Cells
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.runtime.block_stream import PartCall, PartResult
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.loading import StackedParams
from jax_interp.runtime.checkpoint.quantizing import quantized_layers
from jax_interp.runtime.checkpoint.smoothing import product_name
from jax_interp.runtime.placement import Placement
from jax_interp.types import Params

ROWS = 64
"""The tokens of an evaluation whose inputs of products are kept."""
MANY_KEYS = 1 << 14
"""The number of keys above which attention runs in bfloat16 where a kernel does that. Its time grows with their square,
and would be most of the time of a clip of 121 frames; for a pair of frames float32 takes a few seconds."""
STREAM_BYTES = 6 << 30
"""The bytes of residual streams that stay on the device between parts, at most."""
STREAM_SHARE = 0.25
"""The share of the device's memory that they take, at most."""


class ProductInputs(NamedTuple):
    """What went into a product, of all tokens and evaluations; on the device."""

    largest: Float[Array, " I"]
    """The largest magnitude of every channel."""
    rows: Float[Array, "R I"]
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


class RecordingDenoiser(Quick, Denoiser):
    """The transformer in float32 on one device. Every part of a block is read once, for all evaluations.

    Only the parts that run next and the residual streams are on the device; streams that have no room there wait in
    host memory. On GPUs products round their operands to tf32 and attention to many keys runs in bfloat16, since
    float32 would take several times as long: a magnitude becomes a power of two, and a sample of inputs is as good with
    that rounding.
    """

    KEEP_ON_HOST = ()

    def __init__(self, converted: ConvertedComponent):
        super().__init__(converted, "float32")
        self.place(Placement("streamed"))
        # Read as they are stored, and made float32 on the device: half as much is converted and copied by the host.
        self._stored = StackedParams(converted, self.network.abstract)
        self._widen = self.jit(partial(jax.tree.map, lambda leaf: leaf.astype(self.dtype)))
        smoothed = self.structure(self.config, self.precision, "int8-smoothed").abstract
        self.products = tuple(product_name(layer.kernel) for layer in quantized_layers(smoothed))
        """The names of the products within a block."""
        parts = partial(cells.attend, attention=_quick_attention), cells.transform
        programs = (partial(_noting, each, self.products, self.devices) for each in parts)
        self._noting = [
            self.compile_part(part, program, CELLS_SPEC, SHARED_SPECS, static_argnames="cells")
            for part, program in enumerate(programs)
        ]
        self._join = self.jit(_joined)

    @property
    def compiler_options(self) -> dict[str, Any]:
        return without_trials()

    @property
    def outer(self) -> Params:
        if self._outer is None:
            self._outer = self._wide(super().outer)
        return self._outer

    def record(self, evaluations: Sequence[Evaluation], noted: Noted) -> None:
        """Run all blocks on all of `evaluations`, and call `noted` when a part of a block has run on all of them."""
        with self.numerics():
            room = _room(self.devices.mesh.local_devices[0])
            begun: list[Array | np.ndarray] = []
            shared: list[DiTBlockInputs] = []
            for each in evaluations:
                stream, inputs = self._embed(self.outer, *self.devices.put(tuple(each)))
                room -= stream.nbytes
                begun.append(stream if room >= 0 else jax.device_get(stream))
                shared.append(inputs)
            counts = [self.num_cells(each.x.shape) for each in evaluations]

            def apply(call: PartCall, streams: list[Array | np.ndarray]) -> PartResult[list[Array | np.ndarray]]:
                after, notes = [], []
                for stream, inputs, count in zip(streams, shared, counts, strict=True):
                    static = {"cells": count} if call.part == 0 else {}
                    result = self._noting[call.part](call.params, stream, inputs, None, **static)
                    following, found = jax.block_until_ready(result.state)  # one at a time has its activations
                    after.append(jax.device_get(following) if isinstance(stream, np.ndarray) else following)
                    notes.append(found)
                noted(call.block, call.params, self._join(notes))
                return PartResult(after, jnp.zeros(1))

            try:
                self.run_blocks(apply, begun)
            finally:
                self.unload()

    def weight(self, params: Params, product: str) -> Float[Array, "I O"]:
        """Return the weight of a product, one of those of the part that `params` are of."""
        parent, _, name = product.rpartition("/")
        leaves = dict(flatten(params))
        kernels = [leaves[f"{parent}/{source}/kernel"] for source in JOINED.get(name, (name,))]
        return kernels[0] if len(kernels) == 1 else jnp.concatenate(kernels, axis=1)

    def _copy(self, at: tuple[int, int], params: Params) -> Params:
        return self._wide(super()._copy(at, params))

    def _wide(self, params: Params) -> Params:
        stored = {leaf.dtype for _, leaf in flatten(params)}
        return params if stored == {self.dtype} else self._widen(params)


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


def _joined(notes: Sequence[Mapping[str, ProductInputs]]) -> dict[str, ProductInputs]:
    """Return what went into products in all evaluations, of what was noted in each."""
    together = {product: [each[product] for each in notes] for product in notes[0]}
    return {
        product: ProductInputs(
            jnp.stack([each.largest for each in found]).max(0), jnp.concatenate([each.rows for each in found])
        )
        for product, found in together.items()
    }


def _quick_attention(q: Array, k: Array, v: Array) -> Array:
    """Apply attention, for many keys in bfloat16 if a kernel for that runs here, or else in the dtype of `q`."""
    halves = [x.astype(jnp.bfloat16) for x in (q, k, v)]
    if k.shape[1] > MANY_KEYS and ((fits_flash(*halves[:2]) and flash_available()) or cudnn_available()):
        return attention(*halves).astype(q.dtype)
    return attention(q, k, v)


def _room(device: jax.Device) -> float:
    """Return the bytes of residual streams that may stay on `device`."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return STREAM_BYTES if limit is None else min(STREAM_BYTES, STREAM_SHARE * limit)
