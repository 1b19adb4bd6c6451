"""How weights are split over the axes of a mesh: tables of path patterns, first match wins."""

import math
import re
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from jax_interp.errors import UsageError
from jax_interp.nn.params import flatten, unflatten
from jax_interp.runtime.host import nbytes
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.types import Params

WEIGHT_AXES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"(.*/)?(self_|cross_)?attention/(query|key|value)/kernel", (None, "heads")),
    (r"(.*/)?(self_|cross_)?attention/out/kernel", ("heads", None)),
    (r"(.*/)?(self_|cross_)?attention/(query|key|value)/bias", ("heads",)),
    (r"(.*/)?mlp/(up|gate)/kernel", (None, "hidden")),
    (r"(.*/)?mlp/(up|gate)/bias", ("hidden",)),
    (r"(.*/)?mlp/down/kernel", ("hidden", None)),
    (r".*", ()),
)
"""What the axes of a weight are; those without a name are never split by themselves."""

MESH_AXES = {"heads": "tensor", "hidden": "tensor"}
"""Which mesh axis splits an axis of that name."""


def gathered_specs(abstract: Params) -> Params:
    """How the weights of a block lie while it computes: split over `tensor`, the same everywhere else."""
    return unflatten({path: P(*_whole(path, len(leaf.shape))) for path, leaf in flatten(abstract)})


def sharded_specs(abstract: Params, devices: DeviceMesh) -> Params:
    """How the weights of a block lie while it waits: divided among `devices.share_axes` too.

    The first axis that divides evenly is taken, if need be among fewer devices; what has none (norms, in the main, and
    most weights on a number of devices that is no power of two) is kept whole by every device.
    """
    return _shares(abstract, devices.shape, devices.share_axes)


def device_bytes(abstract: Params, shape: MeshShape, share_axes: tuple[str, ...]) -> tuple[int, int]:
    """What a device holds of a block while it computes and while it waits, in bytes, without asking for any device."""

    def held(specs: Params) -> int:
        pieces = jax.tree.map(lambda spec: math.prod(shape.along(_names(names)) for names in spec), specs)
        return sum(jax.tree.leaves(jax.tree.map(lambda leaf, count: nbytes(leaf) // count, abstract, pieces)))

    return held(gathered_specs(abstract)), held(_shares(abstract, shape, share_axes))


def gather(shares: Params, share: Params, whole: Params) -> Params:
    """Put weights together again that lie as `share` says; for use within `jax.shard_map`."""

    def together(array: jax.Array, share: P, whole: P) -> jax.Array:
        for axis, (names, kept) in enumerate(zip(share, whole, strict=True)):
            if names != kept:
                axes = tuple(name for name in _names(names) if name not in _names(kept))
                return jax.lax.all_gather(array, axes, axis=axis, tiled=True)
        return array

    return jax.tree.map(together, shares, share, whole)


SPLIT = {"attention heads": "num_heads", "hidden units": "mlp_width", "key and value heads": "num_kv_heads"}
"""What the `tensor` axis of a mesh splits, and the setting that says into how many pieces it could be split."""


def split_counts(config: Any) -> dict[str, int]:
    """How many there are of each of `SPLIT` in the network `config`."""
    return {said: getattr(config, name) for said, name in SPLIT.items() if hasattr(config, name)}


def check_split(component: str, shape: Any, counts: dict[str, int]) -> None:
    """Raise `UsageError` unless `tensor` devices divide every one of `counts` (what it splits, by name)."""
    bad = {name: count for name, count in counts.items() if count % shape.tensor}
    if bad:
        said = " and ".join(f"{count} {name}" for name, count in bad.items())
        works = [n for n in range(1, 17) if not any(count % n for count in counts.values())]
        raise UsageError(
            f"--mesh {shape}: tensor={shape.tensor} does not divide the {said} of the {component}; tensor may be"
            f" {', '.join(map(str, works))}"
        )


def _whole(path: str, num_axes: int) -> tuple[str | None, ...]:
    named = next(axes for pattern, axes in WEIGHT_AXES if re.fullmatch(pattern, path))
    split = tuple(MESH_AXES.get(axis) if axis else None for axis in named)
    return split + (None,) * (num_axes - len(split))


def _shares(abstract: Params, mesh: MeshShape, share_axes: tuple[str, ...]) -> Params:
    return unflatten({path: _shared(path, leaf.shape, mesh, share_axes) for path, leaf in flatten(abstract)})


def _shared(path: str, shape: tuple[int, ...], mesh: MeshShape, share_axes: tuple[str, ...]) -> P:
    whole = _whole(path, len(shape))
    if len(shape) < 2:
        return P(*whole)
    fewer = sorted(((name,) for name in share_axes), key=mesh.along, reverse=True)
    for among in (share_axes, *fewer):
        for axis, (length, split) in enumerate(zip(shape, whole, strict=True)):
            names = (*_names(split), *among)
            if mesh.along(among) > 1 and length % mesh.along(names) == 0:
                return P(*whole[:axis], names, *whole[axis + 1 :])
    return P(*whole)


def _names(entry: Any) -> tuple[str, ...]:
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)
