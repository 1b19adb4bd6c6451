"""Other ways to attend to tokens that several GPUs share than `runtime.all_to_all`, timed beside it in one process.

```
python -m benchmarks.scaling.exchange_ways WORK --gpus 2 [--quantization int8] [--ways two-groups by-source unsent]
```

- `one-group`, `two-groups`: all-to-alls, as the product has them, of all heads at once or in two groups.
- `permuted`, `permuted-groups`: what goes to another GPU is copied together and permuted, of all heads or two groups.
- `apart`: values, keys and queries are permuted apart, each as soon as it is there.
- `by-source`: also, queries are attended to GPU by GPU, the own ones last, so that results travel meanwhile.
- `unsent`: nothing is sent, which is wrong and shows what there is to gain.

With XLA_FLAGS=--xla_gpu_use_memcpy_local_p2p=true permutes are copies by the copy engines.
"""

import itertools
import os
import time
from collections.abc import Callable
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P

from benchmarks.measure import emit, parser, summary
from jax_interp import Interpolator
from jax_interp.config import Quantization
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.nn.attention import attention
from jax_interp.nn.collectives import Collectives
from jax_interp.parity.findings import relative_error
from jax_interp.pipeline.stages import cells
from jax_interp.pipeline.stages.cells import CELLS_SPEC, SHARED_SPECS
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.runtime import all_to_all
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape

Attend = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""Self-attention from a device's queries, keys and values `[B, L, N, K]`, as `Collectives.attend`."""


def permuted(ranks: int, *, apart: bool = False, by_source: bool = False) -> Attend:
    """Return attention whose exchanges are permutes of contiguous arrays, over `ranks` devices along `sequence`.

    Keys are in the order own, then those of the device before, and so on; softmax does not see the order.
    """

    def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        rank = lax.axis_index("sequence")
        heads = partial(_heads_of, rank=rank, ranks=ranks)
        if apart:
            values, keys, queries = (
                [heads(x, 0), *(_send(heads(x, shift), shift, ranks) for shift in range(1, ranks))] for x in (v, k, q)
            )
        else:
            together = [_together([heads(x, shift) for x in (q, k, v)], shift, ranks) for shift in range(ranks)]
            queries, keys, values = (list(parts) for parts in zip(*together, strict=True))
        all_keys, all_values = jnp.concatenate(keys, 1), jnp.concatenate(values, 1)
        results: list[jax.Array] = []
        if not by_source:
            results = jnp.split(attention(jnp.concatenate(queries, 1), all_keys, all_values), ranks, axis=1)
        own_last = [*range(1, ranks), 0]
        found = {
            shift: results[shift] if results else attention(queries[shift], all_keys, all_values) for shift in own_last
        }
        back = [_send(found[shift], -shift, ranks) if shift else found[shift] for shift in range(ranks)]
        # Part `shift` has the heads of the device that is so much further.
        return jnp.roll(jnp.stack(back, axis=2), rank, axis=2).reshape(q.shape)

    return attend


def in_groups(attend: Attend, ranks: int, groups: int) -> Attend:
    """Return `attend` for one group of heads after the other, each with some heads of every device."""

    def attend_groups(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        batch, length, heads, width = q.shape
        split = [x.reshape(batch, x.shape[1], ranks, groups, -1, width) for x in (q, k, v)]
        results = [
            attend(*(x[:, :, :, group].reshape(batch, x.shape[1], heads // groups, width) for x in split))
            for group in range(groups)
        ]
        results = [result.reshape(batch, length, ranks, -1, width) for result in results]
        return jnp.stack(results, 3).reshape(q.shape)

    return attend_groups


def unsent(ranks: int) -> Attend:
    """Return attention of as many tokens and heads as if they had been exchanged."""

    def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        batch, _, heads, width = q.shape
        return attention(*(x.reshape(batch, -1, heads // ranks, width) for x in (q, k, v))).reshape(q.shape)

    return attend


def _heads_of(x: jax.Array, shift: int, *, rank: jax.Array, ranks: int) -> jax.Array:
    """Return, of `x` [B, L, N, K], the heads of the device `shift` further than this one."""
    batch, length, heads, width = x.shape
    by_rank = x.reshape(batch, length, ranks, heads // ranks, width)
    return lax.dynamic_index_in_dim(by_rank, (rank + shift) % ranks, axis=2, keepdims=False)


def _send(x: jax.Array, shift: int, ranks: int) -> jax.Array:
    """Send `x` to the device `shift` further."""
    return lax.ppermute(x, "sequence", [(rank, (rank + shift) % ranks) for rank in range(ranks)])


def _together(arrays: list[jax.Array], shift: int, ranks: int) -> list[jax.Array]:
    """Send several arrays as one."""
    if shift == 0:
        return arrays
    ends = np.cumsum([x.shape[1] for x in arrays])[:-1]
    return jnp.split(_send(jnp.concatenate(arrays, 1), shift, ranks), ends, axis=1)


PERMUTED: dict[str, Callable[[int], Attend]] = {
    "permuted": permuted,
    "permuted-groups": lambda ranks: in_groups(permuted(ranks), ranks, 2),
    "apart": partial(permuted, apart=True),
    "by-source": partial(permuted, apart=True, by_source=True),
    "unsent": unsent,
}
GROUPED = {"one-group": 1, "two-groups": 2}
WAYS = (*GROUPED, *PERMUTED)


def use(way: str, denoiser: Denoiser) -> None:
    """Have `denoiser` attend by `way` from now on; cells have to divide among its devices."""
    if way in GROUPED:
        all_to_all.head_groups = lambda *_: GROUPED[way]
        between = all_to_all.collectives_between
    else:
        attend = PERMUTED[way](denoiser.devices.shape.sequence)

        def between(devices: DeviceMesh, *, cells: int = 1, cells_here: int = 1) -> Collectives:
            del devices, cells, cells_here  # cells divide evenly
            return Collectives(attend)

    cells.collectives_between = between  # pyright: ignore[reportPrivateImportUsage]
    attend_cells = partial(cells.attend, devices=denoiser.devices)
    compiled: Callable[..., Callable[..., jax.Array]] = partial(denoiser.compile_part, 0, static_argnames="cells")
    specs: tuple[P, object] = (CELLS_SPEC, SHARED_SPECS)
    denoiser._attend = compiled(attend_cells, *specs)
    denoiser._attend_between = compiled(partial(attend_cells, between=True), *specs, donate=False)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--gpus", type=int, default=2)
    arguments.add_argument("--quantization", choices=get_args(Quantization), default="none")
    arguments.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    arguments.add_argument("--steps", type=int, default=16)
    options = arguments.parse_args()
    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    interpolator = Interpolator.from_pretrained(
        options.work / options.model,
        mesh=MeshShape(sequence=options.gpus),
        embedding_cache=False,
        quantization=options.quantization,
    )
    shape = (1, *interpolator.check_size(options.height, options.width))
    condition = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
    first = None
    for way in options.ways:
        use(way, interpolator.denoiser)
        sample = partial(interpolator.denoiser.sample, condition, None, None)
        sample(SampleSettings(num_steps=2))
        times = [time.perf_counter()]
        sampled = sample(
            SampleSettings(num_steps=options.steps), progress=lambda *_, seen=times: seen.append(time.perf_counter())
        )
        first = sampled if first is None else first
        emit(
            "exchange_ways",
            config={"model": options.model, "gpus": options.gpus, "way": way, "quantization": options.quantization}
            | {"height": options.height, "width": options.width, "flags": os.environ.get("XLA_FLAGS", "")},
            weights="random",
            # A call is reported one call after the device has done it.
            call_ms=summary([later - earlier for earlier, later in itertools.pairwise(times)][2:]),
            against_first=relative_error(np.asarray(sampled), np.asarray(first)),
        )


if __name__ == "__main__":
    main()
