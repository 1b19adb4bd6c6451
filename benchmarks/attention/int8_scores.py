"""Attention with queries and keys in int8 beside the bfloat16 kernel, and other ways to share out its programs.

```
python -m benchmarks.attention.int8_scores
```

`bfloat16` is the product's kernel. Prints a line for each shape with the milliseconds of every kernel and of
quantizing, and one for each kind of input with the errors against float32. A kernel that fails has its error in place
of a number.
"""

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.attention.plan import Variant, plan
from benchmarks.attention.variants import attend
from benchmarks.measure import emit, seconds, summary
from jax_interp.nn.attention import blocked_attention
from jax_interp.nn.kernels.flash_attention import flash_attention
from jax_interp.nn.kernels.occupancy import BLOCK_Q, COMPUTE_GROUPS

SHAPES = ((10560, 10560, 32), (5280, 10560, 16), (10560, 10560, 16), (10560, 10560, 8), (10560, 10560, 4))
"""(queries, keys, heads): one GPU; two with a ring of keys; two, four and eight with heads shared out."""
CALLS, ROUNDS = 12, 8
"""The calls between two looks at the clock, and the rounds in which every kernel has its turn."""
WIDTH = 128
SCALE = WIDTH**-0.5

BFLOAT16 = {
    "tiles": Variant(schedule="tiles"),
    "split": Variant(schedule="split"),
    "split, polynomial": Variant(schedule="split", polynomial=64),
}
INT8 = {
    "int8": Variant(),
    "int8, converted": Variant(conversion="convert"),
    "int8, 256 keys": Variant(256),
    "int8, 128 keys, 3 slots": Variant(128, slots=3),
    "int8, polynomial": Variant(polynomial=64),
    "int8, split": Variant(schedule="split"),
    "int8, split, polynomial": Variant(schedule="split", polynomial=64),
    "int8, 256 keys, split, polynomial": Variant(256, schedule="split", polynomial=64),
}
FEW = ("bfloat16", "tiles", "split", "int8, split", "int8, split, polynomial")
"""What runs at all shapes; the first shape sees everything."""


def main() -> None:
    for index, shape in enumerate(SHAPES):
        inputs = gaussian(*shape)
        kernels = candidates(inputs, FEW if index else None)
        plans = {name: plan(variant, shape[0], shape[2])._asdict() for name, variant in BFLOAT16.items()}
        emit("int8_attention", config={"queries_keys_heads": shape}, ms=timed(kernels), plans=plans)
    for kind, make in (("gaussian", gaussian), ("large key channels", with_large_channels)):
        emit("int8_attention", config={"input": kind, "queries_keys_heads": SHAPES[-1]}, **errors(make(*SHAPES[-1])))


def gaussian(num_queries: int, num_keys: int, heads: int) -> tuple[jax.Array, ...]:
    """Return queries, keys and values of independent normal numbers."""
    keys = jax.random.split(jax.random.key(0), 3)
    lengths = (num_queries, num_keys, num_keys)
    return tuple(
        jax.random.normal(key, (1, n, heads, WIDTH), jnp.bfloat16) for key, n in zip(keys, lengths, strict=True)
    )


def with_large_channels(num_queries: int, num_keys: int, heads: int) -> tuple[jax.Array, ...]:
    """Return the same with what trained networks have: a few key channels far from zero, and scores far apart."""
    q, k, v = gaussian(num_queries, num_keys, heads)
    channels = jnp.array([5, 41, 97])
    k = k.at[..., channels].multiply(3).at[..., channels].add(jnp.array([20, -12, 8], k.dtype))
    return 2 * q, k, v


@partial(jax.jit, static_argnames="block_kv")
def quantized(q: jax.Array, k: jax.Array, block_kv: int) -> tuple[jax.Array, jax.Array, tuple[jax.Array, jax.Array]]:
    """Return queries and keys in int8, and the scales of every query and of every block of keys.

    The keys' mean is taken off: it adds the same to all scores of a query, which softmax does not see. The scale of
    attention and the step from powers of e to powers of two are part of the queries' scales.
    """
    tile = COMPUTE_GROUPS * BLOCK_Q
    q8, q_scale = _rounded(q.astype(jnp.float32), axes=(3,))
    q_scale = q_scale[..., 0].swapaxes(1, 2) * (SCALE * math.log2(math.e))
    q_scale = jnp.pad(q_scale, ((0, 0), (0, 0), (0, -q.shape[1] % tile)), constant_values=1)
    batch, num_keys, heads, width = k.shape
    centred = k.astype(jnp.float32)
    centred -= centred.mean(axis=1, keepdims=True)
    blocks = jnp.pad(centred, ((0, 0), (0, -num_keys % block_kv), (0, 0), (0, 0)))
    k8, k_scale = _rounded(blocks.reshape(batch, -1, block_kv, heads, width), axes=(2, 4))
    k8 = k8.reshape(batch, -1, heads, width)[:, :num_keys]
    return q8, k8, (q_scale, k_scale[:, :, 0, :, 0].swapaxes(1, 2))


def _rounded(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    scale = jnp.maximum(jnp.abs(x).max(axis=axes, keepdims=True), 1e-20) / 127
    return jnp.round(x / scale).astype(jnp.int8), scale


def candidates(inputs: tuple[jax.Array, ...], names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Return a compiled call for each kernel, or the error that compiling it or its first run raised."""
    q, k, v = inputs
    calls: dict[str, Any] = {"bfloat16": (partial(flash_attention, scale=SCALE), inputs)}
    for name, variant in BFLOAT16.items():
        calls[name] = partial(attend, scale=SCALE, variant=variant), inputs
    for name, variant in INT8.items():
        q8, k8, scales = quantized(q, k, variant.block_kv)
        calls[name] = partial(attend, scale=SCALE, variant=variant), (q8, k8, v, scales)
    if names is not None:
        calls = {name: calls[name] for name in names}
    calls["quantizing"] = partial(quantized, block_kv=Variant().block_kv), (q, k)
    return {name: compiled(name, *call) for name, call in calls.items()}


PROGRAMS: dict[tuple[str, Any], Any] = {}
"""What has been compiled, by name and shape of the queries."""


def compiled(name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[[], Any] | str:
    """Compile a function and run it once."""
    print(f"{name}, {arguments[0].shape}", file=sys.stderr, flush=True)  # the last one named is the one that hangs
    try:
        key = name, arguments[0].shape
        program = PROGRAMS[key] if key in PROGRAMS else jax.jit(function).lower(*arguments).compile()
        jax.block_until_ready(program(*arguments))
        PROGRAMS[key] = program
    except Exception as error:  # whatever the compiler or driver raises, the other kernels are still measured
        return f"{type(error).__name__}: {str(error)[:300]}"
    return partial(program, *arguments)


def timed(kernels: dict[str, Any]) -> dict[str, Any]:
    """Measure the milliseconds of a call; kernels take turns, so that each sees the card as warm as the others do."""

    def repeat(call: Callable[[], Any]) -> None:
        for _ in range(CALLS - 1):
            call()
        jax.block_until_ready(call())

    runs = {name: kernel for name, kernel in kernels.items() if callable(kernel)}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, call in runs.items():
            times[name].append(seconds(lambda call=call: repeat(call)) / CALLS)
    return {name: summary(times[name]) if name in runs else kernels[name] for name in kernels}


def errors(inputs: tuple[jax.Array, ...]) -> dict[str, Any]:
    """Return every kernel's relative error to float32, and which ones give the bits of the bfloat16 kernel."""
    with jax.default_matmul_precision("highest"):
        exact = blocked_attention(*(x.astype(jnp.float32) for x in inputs), scale=SCALE)
    kernels = candidates(inputs)
    del kernels["quantizing"]
    results = {name: kernel() if callable(kernel) else kernel for name, kernel in kernels.items()}
    return {
        "relative_error": {name: _relative(result, exact) for name, result in results.items()},
        "bits_of_bfloat16": [name for name in BFLOAT16 if _equal(results[name], results["bfloat16"])],
    }


def _relative(result: Any, exact: jax.Array) -> float | str:
    if isinstance(result, str):
        return result
    return float(jnp.linalg.norm((result.astype(jnp.float32) - exact).ravel()) / jnp.linalg.norm(exact.ravel()))


def _equal(one: Any, other: Any) -> bool:
    return not isinstance(one, str) and not isinstance(other, str) and bool((one == other).all())


if __name__ == "__main__":
    main()
