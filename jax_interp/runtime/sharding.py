"""The sharding of weights over the axes of a mesh, by tables of path patterns, of which the first match counts."""

import math
import re
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from jax_interp.errors import UsageError
from jax_interp.nn.params import flatten, unflatten
from jax_interp.nn.quantization import SCALE
from jax_interp.runtime.host import nbytes
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.types import Params

WEIGHT_AXES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"(.*/)?(self_|cross_)?attention/(query|key|value)/kernel", (None, "heads")),
    (r"(.*/)?(self_|cross_)?attention/out/kernel", ("heads", None)),
    (r"(.*/)?(self_|cross_)?attention/(query|key|value)/bias", ("heads",)),
    (r"(.*/)?(self_|cross_)?attention/qkv/int8_kernel", (None, "heads", None)),
    (r"(.*/)?(self_|cross_)?attention/qkv/scale", (None, "heads")),
    (r"(.*/)?(self_|cross_)?attention/(query|key|value)/int8_kernel", ("heads", None)),
    (r"(.*/)?(self_|cross_)?attention/(query|key|value)/scale", ("heads",)),
    (r"(.*/)?(self_|cross_)?attention/out/int8_kernel", (None, "heads")),
    (r"(.*/)?mlp/(up|gate)/kernel", (None, "hidden")),
    (r"(.*/)?mlp/(up|gate)/bias", ("hidden",)),
    (r"(.*/)?mlp/down/kernel", ("hidden", None)),
    (r"(.*/)?mlp/(up|gate)/int8_kernel", ("hidden", None)),
    (r"(.*/)?mlp/(up|gate)/scale", ("hidden",)),
    (r"(.*/)?mlp/down/int8_kernel", (None, "hidden")),
    (r"(.*/)?mlp/down/factors", ("hidden",)),
    (r".*", ()),
)
"""The names of the axes of a weight, by a pattern of its path; axes without a name are never split by themselves."""

MESH_AXES = {"heads": "tensor", "hidden": "tensor"}
"""The mesh axis that splits an axis of that name."""


def gathered_specs(abstract: Params) -> Params:
    """Return the specs of a block's weights while it computes: split over `tensor`, otherwise replicated."""
    return unflatten({path: P(*_gathered_axes(path, len(leaf.shape))) for path, leaf in flatten(abstract)})


def sharded_specs(abstract: Params, devices: DeviceMesh) -> Params:
    """Return the specs of a block's weights while it waits: sharded over `devices.shard_axes` too.

    The first axis that divides evenly is sharded, if need be over fewer devices. Weights without such an axis (norms
    above all, and most weights on a number of devices that is no power of two) are replicated, and so are the scales of
    quantised weights.
    """
    return _sharded_specs(abstract, devices.shape, devices.shard_axes)


def device_bytes(abstract: Params, shape: MeshShape, shard_axes: tuple[str, ...]) -> tuple[int, int]:
    """Return the bytes of a block on one device (while it computes, while it waits); needs no device itself."""

    def held(specs: Params) -> int:
        pieces = jax.tree.map(lambda spec: math.prod(shape.along(_names(names)) for names in spec), specs)
        return sum(jax.tree.leaves(jax.tree.map(lambda leaf, count: nbytes(leaf) // count, abstract, pieces)))

    return held(gathered_specs(abstract)), held(_sharded_specs(abstract, shape, shard_axes))


def gather(shards: Params, sharded: Params, gathered: Params) -> Params:
    """Gather weights with the specs `sharded` into the specs `gathered`; for use within `jax.shard_map`."""

    def gather_array(array: jax.Array, sharded: P, gathered: P) -> jax.Array:
        for axis, (names, kept) in enumerate(zip(sharded, gathered, strict=True)):
            if names != kept:
                axes = tuple(name for name in _names(names) if name not in _names(kept))
                return jax.lax.all_gather(array, axes, axis=axis, tiled=True)
        return array

    return jax.tree.map(gather_array, shards, sharded, gathered)


SPLIT = {"attention heads": "num_heads", "hidden units": "mlp_width", "key and value heads": "num_kv_heads"}
"""The quantities that the `tensor` axis of a mesh splits, with the setting that says how many of them there are."""


def split_counts(config: Any) -> dict[str, int]:
    """Return the number of each quantity of `SPLIT` in the network `config`."""
    return {said: getattr(config, name) for said, name in SPLIT.items() if hasattr(config, name)}


def check_split(component: str, shape: Any, counts: dict[str, int]) -> None:
    """Raise `UsageError` unless `tensor` divides every one of `counts`, which are by the name of what is split."""
    bad = {name: count for name, count in counts.items() if count % shape.tensor}
    if bad:
        said = " and ".join(f"{count} {name}" for name, count in bad.items())
        works = [n for n in range(1, 17) if not any(count % n for count in counts.values())]
        raise UsageError(
            f"--mesh {shape}: tensor={shape.tensor} does not divide the {said} of the {component}; tensor may be"
            f" {', '.join(map(str, works))}"
        )


def _gathered_axes(path: str, num_axes: int) -> tuple[str | None, ...]:
    named = next(axes for pattern, axes in WEIGHT_AXES if re.fullmatch(pattern, path))
    split = tuple(MESH_AXES.get(axis) if axis else None for axis in named)
    return split + (None,) * (num_axes - len(split))


def _sharded_specs(abstract: Params, mesh: MeshShape, shard_axes: tuple[str, ...]) -> Params:
    return unflatten({path: _sharded_spec(path, leaf.shape, mesh, shard_axes) for path, leaf in flatten(abstract)})


def _sharded_spec(path: str, shape: tuple[int, ...], mesh: MeshShape, shard_axes: tuple[str, ...]) -> P:
    whole = _gathered_axes(path, len(shape))
    if len(shape) < 2 or path.endswith(f"/{SCALE}"):
        return P(*whole)
    fewer = sorted(((name,) for name in shard_axes), key=mesh.along, reverse=True)
    for among in (shard_axes, *fewer):
        for axis, (length, split) in enumerate(zip(shape, whole, strict=True)):
            names = (*_names(split), *among)
            if mesh.along(among) > 1 and length % mesh.along(names) == 0:
                return P(*whole[:axis], names, *whole[axis + 1 :])
    return P(*whole)


def _names(entry: Any) -> tuple[str, ...]:
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)
