"""What one layer of attention is wrong by if its tokens are exchanged in another way, on made-up inputs."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike

from jax_interp.nn.collectives import Collectives
from jax_interp.nn.quantization import quantize_tokens
from jax_interp.parity.findings import relative_error
from jax_interp.runtime.all_to_all import collectives_between
from jax_interp.runtime.mesh import DeviceMesh

Between = Callable[..., Collectives]
"""A function such as `runtime.all_to_all.collectives_between`."""
Inputs = dict[str, tuple[jax.Array, jax.Array, jax.Array]]
TOKENS = P(None, "sequence")


class LayerError:
    """Relative errors (L2) of a layer of attention against the product's, by the kind of its inputs.

    `normal` are products of independent normal numbers, and so are normal. In `large_key_channels` three channels of
    the keys are also far from zero and queries are twice as large, as trained networks have it. `shape` is (tokens,
    heads, channels of a head). `of_products` is what a layer is wrong by if the products before it are in int8.
    """

    def __init__(self, devices: DeviceMesh, shape: tuple[int, int, int], dtype: DTypeLike):
        self._devices = devices
        exact, in_int8 = (self._kinds(*(x.reshape(1, *shape) for x in made)) for made in _projected(shape, dtype))
        self._inputs = exact
        self._expected = self._outputs(collectives_between, exact)
        self.of_products = self._errors(self._outputs(collectives_between, in_int8))

    def of(self, between: Between) -> dict[str, float]:
        """Return the errors of the attention of `between`."""
        return self._errors(self._outputs(between, self._inputs))

    def _errors(self, outputs: dict[str, np.ndarray]) -> dict[str, float]:
        return {kind: relative_error(outputs[kind], expected) for kind, expected in self._expected.items()}

    @staticmethod
    def _kinds(q: jax.Array, k: jax.Array, v: jax.Array) -> Inputs:
        channels = np.array([1, k.shape[-1] // 2 - 1, k.shape[-1] - 3])
        large = k.at[..., channels].multiply(3).at[..., channels].add(jnp.array([20, -12, 8], k.dtype))
        return {"normal": (q, k, v), "large_key_channels": (2 * q, large, v)}

    def _outputs(self, between: Between, inputs: Inputs) -> dict[str, np.ndarray]:
        attend = between(self._devices, cells=self._devices.shape.sequence, cells_here=1).attend
        on_devices = jax.shard_map(
            attend, mesh=self._devices.mesh, in_specs=(TOKENS,) * 3, out_specs=TOKENS, check_vma=False
        )
        program = jax.jit(on_devices)
        placed = {kind: [self._devices.put(x, TOKENS) for x in each] for kind, each in inputs.items()}
        return {kind: np.asarray(program(*each)) for kind, each in placed.items()}


@partial(jax.jit, static_argnums=(0, 1))
def _projected(shape: tuple[int, int, int], dtype: DTypeLike) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """Return queries, keys and values of normal tokens by normal weights, by exact products and by those of int8."""
    tokens, heads, width = shape
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(keys[0], (tokens, heads * width), dtype)
    weights = [jax.random.normal(key, (heads * width, heads * width), dtype) for key in keys[1:]]
    size = float(heads * width) ** 0.5
    x8 = quantize_tokens(x)
    exact, in_int8 = [], []
    for weight in weights:
        weight8 = quantize_tokens(weight)
        product = partial(jnp.einsum, "ti,oi->to")
        exact.append(product(x, weight, preferred_element_type=jnp.float32, precision="highest"))
        integers = product(x8.values, weight8.values, preferred_element_type=jnp.int32)
        in_int8.append(integers.astype(jnp.float32) * x8.scale[:, None] * weight8.scale)
    return tuple((y / size).astype(dtype) for y in exact), tuple((y / size).astype(dtype) for y in in_int8)
