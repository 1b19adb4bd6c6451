"""The state of a training run, its start, and its sharding over several devices."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int

from jax_interp.runtime.mesh import REPLICATED, DeviceMesh
from jax_interp.runtime.sharding import sharded_specs
from jax_interp.types import Params

ROWS = P(("data", "sequence"))
"""The sharding of samples: every device along either axis has samples of its own."""


class TrainState(NamedTuple):
    """The arrays that a step replaces, float32 except for the counters."""

    step: Int[Array, ""]
    """The number of optimizer steps done."""
    params: Params
    """The trained parameters: `{"network": ..., "log_variance": ...}`, without what is frozen."""
    optimizer: Any
    average: Params | None
    """The running average of `params`."""


def initial_state(params: Params, optimizer: optax.GradientTransformation, *, averages: bool) -> TrainState:
    """Return the state before the first step; `params` are copied to float32."""
    wide = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), params)
    average = jax.tree.map(jnp.copy, wide) if averages else None
    return TrainState(jnp.zeros((), jnp.int32), wide, optimizer.init(wide), average)


def params_specs(params: Params, devices: DeviceMesh) -> Params:
    """Return the sharding of every array over devices with different samples; a block's is that of `sharding`.

    `params` are arrays (or their descriptions) of the network, of an adapter or of the log-variance.
    """
    return {name: _specs_of(name, leaf, devices) for name, leaf in params.items()}


def state_specs(state: TrainState, devices: DeviceMesh) -> TrainState:
    """Return the sharding of a state: moments and averages are sharded as their parameters are."""
    specs = params_specs(state.params, devices)
    structure = jax.tree.structure(state.params)

    def like_params(tree: Any) -> bool:
        return jax.tree.structure(tree) == structure

    optimizer = jax.tree.map(
        lambda node: specs if like_params(node) else REPLICATED, state.optimizer, is_leaf=like_params
    )
    average = None if state.average is None else specs
    return TrainState(REPLICATED, specs, optimizer, average)  # pyright: ignore[reportArgumentType]


def place_state(state: TrainState, devices: DeviceMesh) -> TrainState:
    """Place `state` on `devices`."""
    return state if devices.alone else devices.put(state, state_specs(state, devices))


def _specs_of(name: str, tree: Any, devices: DeviceMesh) -> Any:
    if name == "network":
        return params_specs(tree, devices)
    if name == "blocks":
        return _block_specs(tree, devices)
    return sharded_specs({name: tree}, devices)[name]


def _block_specs(stacked: Params, devices: DeviceMesh) -> Params:
    block = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), stacked)
    return jax.tree.map(lambda spec: P(None, *spec), sharded_specs(block, devices), is_leaf=lambda x: isinstance(x, P))
