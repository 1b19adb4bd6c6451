"""The MLP's first product in float8 beside bfloat16: the reason why there is no `--quantization`.

```
python -m benchmarks.fp8_product
```
"""

import jax
import jax.numpy as jnp

from benchmarks.measure import emit, warm_ms
from jax_interp.config import DIT_7B

TOKENS = 10560
LARGEST = 448.0
"""The largest number of float8_e4m3fn."""


def main() -> None:
    x = jax.random.normal(jax.random.key(0), (TOKENS, DIT_7B.width), jnp.bfloat16)
    w = jax.random.normal(jax.random.key(1), (DIT_7B.width, DIT_7B.mlp_width), jnp.bfloat16)
    (x8, x_scale), (w8, w_scale) = (jax.jit(quantized)(array) for array in (x, w))
    runs = {
        "bfloat16": (jnp.matmul, (x, w)),
        "float8, quantized before": (scaled_product, (x8, w8, x_scale, w_scale)),
        "float8, activations quantized on the way": (
            lambda x, w8, w_scale: scaled_product(*_with(quantized(x), w8, w_scale)),
            (x, w8, w_scale),
        ),
    }
    times = {}
    for name, (function, arguments) in runs.items():
        program = jax.jit(function).lower(*arguments).compile()
        times[name] = warm_ms(lambda program=program, a=arguments: jax.block_until_ready(program(*a)), 50)
        times[name]["uses_a_float8_kernel"] = "cublas$lt$matmul$f8" in (program.as_text() or "")
    emit("fp8_product", config={"shape": [TOKENS, DIT_7B.width, DIT_7B.mlp_width]}, ms=times)


def quantized(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return `x` in float8, and the single scale of all its values."""
    scale = jnp.abs(x).max().astype(jnp.float32) / LARGEST
    return (x.astype(jnp.float32) / scale).astype(jnp.float8_e4m3fn), scale


def scaled_product(x: jax.Array, w: jax.Array, x_scale: jax.Array, w_scale: jax.Array) -> jax.Array:
    """Multiply in the form that XLA recognises as a float8 product: both operands widened and scaled."""
    wide = (a.astype(jnp.bfloat16) * scale.astype(jnp.bfloat16) for a, scale in ((x, x_scale), (w, w_scale)))
    return jnp.matmul(*wide)


def _with(x: tuple[jax.Array, jax.Array], w8: jax.Array, w_scale: jax.Array) -> tuple[jax.Array, ...]:
    return x[0], w8, x[1], w_scale


if __name__ == "__main__":
    main()
