"""Loading the parameters of a converted network: they are checked and moved to their devices or host memory."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_interp.components import TABLE
from jax_interp.errors import CheckpointError, UsageError
from jax_interp.nn.params import check_complete, flatten, unflatten
from jax_interp.nn.quantization import FACTORS
from jax_interp.runtime.checkpoint.adapters import adapted_paths, merge
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.description import AGAIN, CONFIG_FILE, MANIFEST_FILE, PARAMS_FOLDER
from jax_interp.runtime.checkpoint.param_files import read_arrays, read_params
from jax_interp.runtime.checkpoint.quantizing import QuantizedLayer, faulty_scales, quantized_layers, unquantized
from jax_interp.runtime.checkpoint.smoothing import BLOCKS, Smoothing, are_factors
from jax_interp.runtime.host import out_of_memory
from jax_interp.types import Params


def load_params(converted: ConvertedComponent, abstract: Params, dtype: Any = None) -> Params:
    """Load the parameters of `converted` as `jax.Array`s, shaped like `abstract`.

    `abstract` is a nested dict of `jax.ShapeDtypeStruct`, whose dtypes are ignored. Where a leaf has a sharding, the
    array is read straight into it (host memory included), otherwise into the default device. Floating arrays are
    converted to `dtype`; without it each array keeps the dtype in which it is stored.

    Raises:
        CheckpointError: paths or shapes differ from `abstract` (the message names all), or the files are damaged.
    """
    if converted.within or converted.adapters:
        raise ValueError(f"a part of {converted.path}, or one with adapters, is read with StackedParams")
    dtypes = _checked_dtypes(converted, abstract, dtype)
    default = jnp.zeros(()).sharding
    target = {
        path: jax.ShapeDtypeStruct(leaf.shape, dtypes[path], sharding=getattr(leaf, "sharding", None) or default)
        for path, leaf in flatten(abstract)
    }
    with damage_reported(converted):
        params = read_params(converted.path / PARAMS_FOLDER, unflatten(target))
    check_complete(params, abstract)
    _check_values(converted, dict(flatten(params)))
    return params


class StackedParams:
    """The parameters of a network with a stack under `blocks`, read from disk block by block as numpy arrays.

    Layers that are in 8 bits in `abstract` are read so, or else quantised as they are read: in float32, with the
    adapters merged and, if the network has factors, these folded in.
    """

    def __init__(self, converted: ConvertedComponent, abstract: Params, dtype: Any = None):
        """Check `converted` against `abstract`, as `load_params` does; nothing is read.

        Raises:
            UsageError: adapters cannot be merged, since the weights are stored in 8 bits.
        """
        self._converted = converted
        self._smoothing = None if converted.factors is None else Smoothing(abstract, converted.factors)
        self._stored_layers: tuple[QuantizedLayer, ...] = ()
        self._made_layers: tuple[QuantizedLayer, ...] = ()
        if converted.stored == "none":
            self._made_layers = quantized_layers(abstract, converted.quantization, converted.config)
            dtypes = _checked_dtypes(converted, unquantized(abstract), dtype)
        else:
            self._stored_layers = quantized_layers(abstract)
            dtypes = _checked_dtypes(converted, abstract, dtype)
            dtypes |= _checked_integers(converted, self._stored_layers)
            _check_adapters(converted)
        dtypes |= {path: np.dtype("float32") for layer in self._made_layers for path in layer.sources}
        self._outer = {path: dtype for path, dtype in dtypes.items() if not path.startswith(BLOCKS)}
        self._blocks = {path: dtype for path, dtype in dtypes.items() if path.startswith(BLOCKS)}

    def outer(self, host_only: Collection[str] = ()) -> Params:
        """Read all parameters except the blocks and the arrays in `host_only`."""
        return unflatten(
            self._read({path: dtype for path, dtype in self._outer.items() if path not in host_only}, None)
        )

    def array(self, path: str) -> np.ndarray:
        """Read one array that is in no block."""
        return self._read({path: self._outer[path]}, None)[path]

    def part(self, index: int, names: Collection[str]) -> Params:
        """Read the parameters of block `index` of the stack that are under `names`."""
        wanted = {path: dtype for path, dtype in self._blocks.items() if path.split("/")[1] in names}
        adapters = self._converted.adapters
        # A weight to be merged is read in float32, so that the sum is rounded only once.
        merged = {path: np.dtype("float32") for path in adapted_paths(adapters) & wanted.keys()}
        arrays = self._read(wanted | merged, index)
        arrays |= {path: merge(arrays[path], path, index, adapters, wanted[path]) for path in merged}
        self._smooth(arrays, index)
        self._quantize(arrays)
        return unflatten({path.removeprefix(BLOCKS): array for path, array in arrays.items()})

    def _read(self, wanted: dict[str, Any], row: int | None) -> dict[str, Any]:
        within = self._converted.within
        with damage_reported(self._converted):
            arrays = read_arrays(
                self._converted.path / PARAMS_FOLDER, {within + path: dtype for path, dtype in wanted.items()}, row
            )
        _check_values(self._converted, arrays)
        arrays = {path.removeprefix(within): array for path, array in arrays.items()}
        if faults := faulty_scales(arrays, self._stored_layers):
            raise CheckpointError(
                f"{self._converted.path / PARAMS_FOLDER}: damaged, {', '.join(faults[:5])} hold scales that are not"
                f" finite and above zero; {AGAIN}"
            )
        factors = (path for path in arrays if path.endswith(f"/{FACTORS}"))
        if faults := sorted(path for path in factors if not are_factors(arrays[path])):
            raise CheckpointError(
                f"{self._converted.path / PARAMS_FOLDER}: damaged, {', '.join(faults[:5])} hold factors that are no"
                f" powers of two; {AGAIN}"
            )
        return arrays

    def _smooth(self, arrays: dict[str, Any], index: int) -> None:
        """Fold the factors of block `index` into its weights, and add those that are arrays of it, in place."""
        if self._smoothing is None:
            return
        for path in self._smoothing.changed & arrays.keys():
            arrays[path] = self._smoothing.weight(path, arrays[path], index, in_place=True)
        parts = {path.split("/")[1] for path in arrays}
        for path in self._smoothing.applied:
            if path.split("/")[1] in parts:
                arrays[path] = self._smoothing.array(path)[index]

    def _quantize(self, arrays: dict[str, Any]) -> None:
        """Replace unquantised weights of a block by layers in 8 bits, in place."""
        for layer in self._made_layers:
            if layer.sources[0] not in arrays:
                continue
            try:
                arrays |= layer.quantize(arrays)
            except ValueError as error:
                raise CheckpointError(
                    f"{self._converted.path}: cannot be quantised ({error}); check the checkpoint with `jax-interp"
                    " inspect`, or leave out --quantization"
                ) from error
            for path in layer.sources:
                del arrays[path]


@contextmanager
def damage_reported(converted: ConvertedComponent) -> Iterator[None]:
    """Turn every error of the block, which reads arrays, into a `CheckpointError`, except for memory that runs out."""
    try:
        yield
    except Exception as error:  # Orbax raises a bare Exception for an array that it cannot read
        if out_of_memory(error):
            raise
        raise CheckpointError(
            f"{converted.path / PARAMS_FOLDER}: cannot be read; if memory and disk are in order, convert it again: the"
            f" command of the first time, with --overwrite ({error})"
        ) from error


def _checked_dtypes(converted: ConvertedComponent, abstract: Params, dtype: Any) -> dict[str, Any]:
    """Return the shape and dtype of every array to read; raise `CheckpointError` if they do not fit `abstract`."""
    stored = {
        path.removeprefix(converted.within): jax.ShapeDtypeStruct(tuple(entry["shape"]), jnp.dtype(entry["dtype"]))
        for path, entry in converted.manifest["params"].items()
        if path.startswith(converted.within)
    }
    try:
        check_complete(unflatten(stored), abstract)
    except ValueError as error:
        raise CheckpointError(
            f"{converted.path / MANIFEST_FILE} (and {CONFIG_FILE}): does not fit this version's network ({error});"
            f" {AGAIN}"
        ) from error
    return {path: _cast(leaf.dtype, dtype) for path, leaf in stored.items()}


def _checked_integers(converted: ConvertedComponent, layers: tuple[QuantizedLayer, ...]) -> dict[str, Any]:
    """Return the dtypes of the arrays of `layers`, which are not cast; raise `CheckpointError` if others are stored."""
    expected = {layer.kernel: "int8" for layer in layers} | {layer.scale: "float32" for layer in layers}
    stored = {path: converted.manifest["params"][converted.within + path]["dtype"] for path in expected}
    if faults := [
        f"{path} is {stored[path]}, expected {dtype}" for path, dtype in expected.items() if stored[path] != dtype
    ]:
        raise CheckpointError(f"{converted.path / MANIFEST_FILE}: damaged, {'; '.join(sorted(faults)[:5])}; {AGAIN}")
    return {path: np.dtype(dtype) for path, dtype in expected.items()}


def _check_adapters(converted: ConvertedComponent) -> None:
    if converted.adapters:
        # A calibration is of the network without adapters, and is stored with what was made of it.
        instead = "int8" if converted.stored == "int8-smoothed" else converted.stored
        raise UsageError(
            f"--lora: {converted.path} is stored in {converted.stored}, into which no adapter can be merged; name a"
            f" folder that was converted without --quantization, and pass --quantization {instead}: the adapter is then"
            " merged before the weights are quantised"
        )


def _cast(stored: Any, wanted: Any) -> Any:
    return jnp.dtype(wanted) if wanted is not None and jnp.issubdtype(stored, jnp.floating) else stored


def _check_values(converted: ConvertedComponent, arrays: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` for values that no training gives, in networks whose outputs would hide the damage."""
    if not TABLE[converted.component].hides_damage:
        return
    values = {path: np.asarray(array) for path, array in arrays.items()}
    for fault, is_faulty in (("values that are not numbers", _has_no_numbers), ("one value throughout", _is_constant)):
        if faults := [path for path, array in values.items() if is_faulty(array)]:
            raise CheckpointError(
                f"{converted.path / PARAMS_FOLDER}: {', '.join(faults[:5])} hold {fault}; download the"
                f" {converted.component} again and convert it again"
            )


def _has_no_numbers(array: np.ndarray) -> bool:
    return not np.isfinite(array).all()


def _is_constant(array: np.ndarray) -> bool:
    """Tell whether this is a matrix or a kernel with a single value throughout; biases and scales may be constant."""
    first, last = array.flat[0], array.flat[-1]
    return array.ndim > 1 and array.size > 1 and bool(first == last) and bool((array == first).all())
