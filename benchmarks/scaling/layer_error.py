"""What one layer of attention is wrong by if its tokens are exchanged in another way, on made-up inputs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike

from jax_interp.nn.collectives import Collectives
from jax_interp.parity.findings import relative_error
from jax_interp.runtime.all_to_all import collectives_between
from jax_interp.runtime.mesh import DeviceMesh

Between = Callable[..., Collectives]
"""A function such as `runtime.all_to_all.collectives_between`."""
TOKENS = P(None, "sequence")


class LayerError:
    """Relative errors (L2) of a layer of attention against the product's, by the kind of its inputs.

    `normal` are independent normal numbers. In `large_key_channels` three channels of the keys are also far from zero
    and queries are twice as large, as trained networks have it. `shape` is (tokens, heads, channels of a head).
    """

    def __init__(self, devices: DeviceMesh, shape: tuple[int, int, int], dtype: DTypeLike):
        self._devices = devices
        q, k, v = jax.random.normal(jax.random.key(0), (3, 1, *shape), dtype)
        channels = np.array([1, shape[2] // 2 - 1, shape[2] - 3])
        large = k.at[..., channels].multiply(3).at[..., channels].add(jnp.array([20, -12, 8], dtype))
        self._inputs = {"normal": (q, k, v), "large_key_channels": (2 * q, large, v)}
        self._expected = self._outputs(collectives_between)

    def of(self, between: Between) -> dict[str, float]:
        """Return the errors of the attention of `between`."""
        outputs = self._outputs(between)
        return {kind: relative_error(outputs[kind], expected) for kind, expected in self._expected.items()}

    def _outputs(self, between: Between) -> dict[str, np.ndarray]:
        attend = between(self._devices, cells=self._devices.shape.sequence, cells_here=1).attend
        on_devices = jax.shard_map(
            attend, mesh=self._devices.mesh, in_specs=(TOKENS,) * 3, out_specs=TOKENS, check_vma=False
        )
        program = jax.jit(on_devices)
        placed = {kind: [self._devices.put(x, TOKENS) for x in inputs] for kind, inputs in self._inputs.items()}
        return {kind: np.asarray(program(*inputs)) for kind, inputs in placed.items()}
