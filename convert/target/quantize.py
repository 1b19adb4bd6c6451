"""The streams of a network that is stored in 8 bits, made of the streams of its unquantised arrays."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from convert.mapping.matching import Leaf
from convert.mapping.ops import Op
from jax_interp.config import Quantization
from jax_interp.errors import CheckpointError
from jax_interp.runtime.checkpoint.calibration import Factors
from jax_interp.runtime.checkpoint.param_files import ArrayStream
from jax_interp.runtime.checkpoint.quantizing import QuantizedLayer, quantized_layers
from jax_interp.runtime.checkpoint.smoothing import Smoothing, folded_dtype
from jax_interp.types import Params


def quantize_streams(
    leaves: Sequence[Leaf],
    streams: Mapping[str, ArrayStream],
    abstract: Params,
    quantization: Quantization,
    config: Any,
    factors: Factors | None = None,
) -> tuple[tuple[Leaf, ...], dict[str, ArrayStream]]:
    """Return what `leaves` and `streams` become in a network with the parameters `abstract`, of which some are in 8
    bits by `quantization`; `config` is the network's, and `factors` are those of a calibration.

    The values are those of quantising at load: the unquantised ones, which may have been rounded to bfloat16, go
    through `QuantizedLayer.quantize`. Memory holds the weights of one layer of one block.
    """
    kept, quantized = {leaf.path: leaf for leaf in leaves}, dict(streams)
    added: list[Leaf] = []
    if factors is not None:
        smoothing = Smoothing(abstract, factors)
        quantized |= {path: _smoothed(quantized[path], path, smoothing) for path in smoothing.changed}
        for path in smoothing.applied:
            quantized[path] = ArrayStream.of(smoothing.array(path))
            added.append(Leaf(path, quantized[path].shape, (), _named(quantization), "calibration", stacked=True))
    for layer in quantized_layers(abstract, quantization, config):
        sources = [kept.pop(path) for path in layer.sources]
        pair = _Pair(layer, {path: quantized.pop(path) for path in layer.sources})
        quantized |= {layer.kernel: pair.kernel, layer.scale: pair.scale}
        op = _named(f"{sources[0].op.name}, {quantization}")
        pattern, keys = (
            " + ".join(leaf.pattern for leaf in sources),
            tuple(key for leaf in sources for key in leaf.keys),
        )
        added += [
            Leaf(path, stream.shape, keys, op, pattern, stacked=True)
            for path, stream in ((layer.kernel, pair.kernel), (layer.scale, pair.scale))
        ]
    return (*kept.values(), *added), quantized


def _smoothed(stream: ArrayStream, path: str, smoothing: Smoothing) -> ArrayStream:
    """Return the stream of the weight `path` with the factors that concern it, block by block."""

    def pieces(rows: int) -> Iterator[np.ndarray]:
        block = 0
        for piece in stream.pieces(rows):
            changed = [smoothing.weight(path, weight, block + row) for row, weight in enumerate(piece)]
            yield changed[0][None] if len(changed) == 1 else np.stack(changed)
            block += len(piece)

    return replace(stream, dtype=folded_dtype(stream.dtype), pieces=pieces)


@dataclass
class _Pair:
    """The two streams of a layer. Its weights are read once if the integers are written before the scales."""

    layer: QuantizedLayer
    sources: Mapping[str, ArrayStream]
    _scales: list[np.ndarray] = field(default_factory=list)

    @property
    def kernel(self) -> ArrayStream:
        """The integers."""
        return ArrayStream(self.layer.shape, np.dtype(np.int8), self._kernels)

    @property
    def scale(self) -> ArrayStream:
        """The scales."""
        return ArrayStream(self.layer.shape[:-1], np.dtype(np.float32), self._all_scales)

    def _kernels(self, rows: int) -> Iterator[np.ndarray]:
        self._scales.clear()
        run: list[np.ndarray] = []
        for block in self._blocks():
            run.append(block[self.layer.kernel])
            self._scales.append(block[self.layer.scale])
            if len(run) == rows:
                yield np.stack(run)
                run.clear()
        if run:
            yield np.stack(run)

    def _all_scales(self, rows: int) -> Iterator[np.ndarray]:
        if len(self._scales) != self.layer.shape[0]:
            self._scales = [block[self.layer.scale] for block in self._blocks()]
        for start in range(0, len(self._scales), rows):
            yield np.stack(self._scales[start : start + rows])

    def _blocks(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the arrays of the layer block by block."""
        pieces = [self.sources[path].pieces(1) for path in self.layer.sources]
        for weights in zip(*pieces, strict=True):
            wide = (weight[0].astype(np.float32) for weight in weights)
            try:
                yield self.layer.quantize(dict(zip(self.layer.sources, wide, strict=True)))
            except ValueError as error:
                raise CheckpointError(
                    f"cannot be quantised ({error}); check the checkpoint's files, or leave out --quantization"
                ) from error


def _named(name: str) -> Op:
    """Return an op that says what was done and has no inverse."""

    def inverse(values: np.ndarray) -> np.ndarray:
        raise ValueError(f"{name} has no inverse: what was rounded off is lost")

    return Op(name, lambda values: values, inverse)
