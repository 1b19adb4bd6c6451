"""How fast devices talk, in the patterns and sizes of one block of the transformer, and what starting a program costs.

Every time is that of one operation on all devices at once. `bytes` leave (or reach, from the host) each device by one
operation, what it keeps for itself left out; `gb_per_s` is 1e9 of those a second.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from benchmarks.measure import seconds
from jax_interp.models.dit import patch_grid
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.runtime.mesh import REPLICATED, DeviceMesh
from jax_interp.runtime.sharding import gather, gathered_specs, sharded_specs
from jax_interp.types import Params

ROUNDS = 10
"""The number of repetitions in one program or measurement, so that its start does not count."""
SMALL = 8
"""The number of values of a head where only the latency of an operation is measured."""
PROGRAM_ARRAYS = 16
"""The number of weights that the program of a block's first part takes."""


def link_speeds(denoiser: Denoiser, height: int, width: int, repeats: int = 5) -> dict[str, Any]:
    """Measure speeds and latencies between the devices of `denoiser`, which lie along `sequence`."""
    config, devices = denoiser.config, denoiser.devices
    ranks = devices.shape.size
    frames, rows, columns = patch_grid((1, 3, height // 8, width // 8), config.patch_size)
    cells = -(-rows * columns // ranks) * ranks
    heads = -(-config.num_heads // ranks) * ranks
    queries = (1, frames, cells, heads, config.head_width)
    tokens = (1, frames * cells, config.width)
    part = denoiser.network.part_abstract(1)
    found = {
        "all_to_all": _exchange(devices, queries, denoiser.dtype, repeats),
        "all_to_all_small": _exchange(devices, (1, 1, ranks, ranks, SMALL), denoiser.dtype, repeats),
        "all_reduce": _add(devices, tokens, denoiser.dtype, repeats),
        "all_reduce_small": _add(devices, (1, 1, SMALL), denoiser.dtype, repeats),
        "all_gather": _gather(devices, part, repeats),
        "host_to_device": _copy(devices, part, repeats),
    }
    for speed in found.values():
        speed["gb_per_s"] = speed["bytes"] / speed["seconds"] / 1e9
    return found


def dispatch_seconds(devices: DeviceMesh, repeats: int = 5, programs: int = 560) -> float:
    """Return the seconds from one program to the next where the devices have nearly nothing to do."""
    arrays = {str(name): np.ones(SMALL, np.float32) for name in range(PROGRAM_ARRAYS)}
    params = devices.put(arrays)
    state = devices.put(np.ones((devices.shape.sequence, SMALL), np.float32), P("sequence"))

    def each(params: Params, state: jax.Array) -> jax.Array:
        return state + sum(jax.tree.leaves(params))

    function = each
    if not devices.alone:
        function = jax.shard_map(each, mesh=devices.mesh, in_specs=(REPLICATED, P("sequence")), out_specs=P("sequence"))
    program = jax.jit(function, donate_argnums=1)

    def run() -> None:
        nonlocal state
        for _ in range(programs):
            state = program(params, state)
        jax.block_until_ready(state)

    return _best(run, repeats) / programs


def _exchange(devices: DeviceMesh, shape: tuple[int, ...], dtype: jnp.dtype, repeats: int) -> dict[str, float]:
    """Measure the exchange of tokens of all heads for heads of all tokens, and back."""
    ranks, spec = devices.shape.sequence, P(None, None, "sequence")

    def turn(_: int, x: jax.Array) -> jax.Array:
        x = jax.lax.all_to_all(x, "sequence", split_axis=3, concat_axis=2, tiled=True)
        return jax.lax.all_to_all(x, "sequence", split_axis=2, concat_axis=3, tiled=True)

    x = devices.put(np.ones(shape, dtype), spec)
    took = _looped(devices, turn, x, spec, repeats) / 2
    return {"bytes": x.nbytes // ranks * (ranks - 1) / ranks, "seconds": took}


def _add(devices: DeviceMesh, shape: tuple[int, ...], dtype: jnp.dtype, repeats: int) -> dict[str, float]:
    """Measure the sum over devices of an array as large as a device's; a ring moves each value twice."""
    ranks = devices.shape.sequence
    x = devices.put(np.zeros(shape, dtype))
    took = _looped(devices, lambda _, x: jax.lax.psum(x, "sequence"), x, REPLICATED, repeats)
    return {"bytes": 2 * x.nbytes * (ranks - 1) / ranks, "seconds": took}


def _looped(devices: DeviceMesh, step: Callable[..., jax.Array], x: jax.Array, spec: P, repeats: int) -> float:
    each = jax.shard_map(
        lambda x: jax.lax.fori_loop(0, ROUNDS, step, x),
        mesh=devices.mesh,
        in_specs=(spec,),
        out_specs=spec,
        check_vma=False,
    )
    program = jax.jit(each)
    return _best(lambda: jax.block_until_ready(program(x)), repeats) / ROUNDS


def _gather(devices: DeviceMesh, part: Params, repeats: int) -> dict[str, float]:
    """Measure the gathering of the weights of half a block on every device."""
    shares, whole = sharded_specs(part, devices), gathered_specs(part)
    each = jax.shard_map(
        lambda params: gather(params, shares, whole),
        mesh=devices.mesh,
        in_specs=(shares,),
        out_specs=whole,
        check_vma=False,
    )
    program, params = jax.jit(each), devices.put(_weights(part), shares)

    def run() -> None:
        whole = params
        for _ in range(ROUNDS):
            whole = program(params)
        jax.block_until_ready(whole)

    full, here = _sizes(params)
    return {"bytes": float(full - here), "seconds": _best(run, repeats) / ROUNDS}


def _copy(devices: DeviceMesh, part: Params, repeats: int) -> dict[str, float]:
    """Measure the copies of every device's shard of half a block from host memory, all at once."""
    shares = sharded_specs(part, devices)
    on_host = devices.keep_on_host(_weights(part), shares)

    def run() -> None:
        jax.block_until_ready([devices.put(on_host, shares) for _ in range(ROUNDS)])

    _, here = _sizes(devices.put(on_host, shares))
    return {"bytes": float(here), "seconds": _best(run, repeats) / ROUNDS}


def _weights(part: Params) -> Params:
    return jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), part)


def _sizes(params: Params) -> tuple[int, int]:
    """Return the bytes of all parameters, and of one device's shards."""
    leaves = jax.tree.leaves(params)
    return sum(leaf.nbytes for leaf in leaves), sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)


def _best(run: Callable[[], Any], repeats: int) -> float:
    """Return the least seconds of `repeats` runs, after one that compiles."""
    run()
    return min(seconds(run) for _ in range(repeats))
