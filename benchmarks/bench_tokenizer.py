"""Encoding a pair and decoding its latents.

```
python -m benchmarks.bench_tokenizer WORK
```
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import allocator_peak, emit, parser, seconds, warm_ms
from jax_interp import Interpolator


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repeats", type=int, default=20)
    options = arguments.parse_args()
    codec = Interpolator.from_pretrained(options.work / options.model, embedding_cache=False).codec
    generator = np.random.default_rng(0)
    first, last = generator.integers(0, 256, (2, options.height, options.width, 3), np.uint8)
    latents = jnp.asarray(generator.standard_normal((3, options.height // 8, options.width // 8, 16)), jnp.float32)
    jax.block_until_ready(codec.params)

    def encode() -> None:
        jax.block_until_ready(codec.encode_pair(first, last, options.height, options.width, 10))

    def decode() -> None:
        np.asarray(codec.decode(latents))

    for name, run in (("encode", encode), ("decode", decode)):
        cold = seconds(run)
        emit(
            f"tokenizer_{name}",
            config={"height": options.height, "width": options.width, "frames": 10, "dtype": "bfloat16"},
            weights="random",
            first_call_seconds=cold,
            ms=warm_ms(run, options.repeats),
            allocator_peak_bytes=allocator_peak(),
        )


if __name__ == "__main__":
    main()
