"""Training with float32 weights, moments and averages in pinned host memory.

The device has weights and gradients in the computation's dtype alone.

After the gradients the optimizer goes through the network piece by piece, a piece being a block or everything else: its
float32 state is copied in while the piece before is worked on, and copied back. At most three pieces are under way: one
that comes, one that is worked on and one that goes back.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

from jax_interp.config import DiTConfig
from jax_interp.nn.params import flatten, unflatten
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.loading import StackedParams
from jax_interp.runtime.mesh import REPLICATED, DeviceMesh
from jax_interp.runtime.sharding import sharded_specs
from jax_interp.train.objective.log_variance import initial_log_variance
from jax_interp.train.objective.noise import make_draws
from jax_interp.train.optimization.ema import update_average
from jax_interp.train.optimization.optimizer import make_unclipped, zero_non_finite
from jax_interp.train.settings import TrainSettings
from jax_interp.train.steps.state import TrainState, params_specs
from jax_interp.train.steps.step import Batch, Metrics, Trainer
from jax_interp.types import Params

OUTER = "outer"
BLOCKS = "network/blocks/"


class OffloadedTrainer(Trainer):
    """A `Trainer` whose states are in host memory, in pieces; it serves one run at a time."""

    def __init__(self, config: DiTConfig, settings: TrainSettings, devices: DeviceMesh | None = None):
        super().__init__(config, settings, devices)
        self.optimizer = make_unclipped(settings.optimizer, settings.steps)
        self._draw = jax.jit(partial(make_draws, settings=settings.noise), static_argnames="shape")
        self._clipping = jax.jit(self._clip_factor)
        self._update = jax.jit(self._update_piece, donate_argnums=(0, 2))
        self._fill = jax.jit(self._with_piece, donate_argnums=0)
        self._weights: tuple[int, Params] | None = None
        """The weights on the device, and after how many steps they are these."""
        self.step = self._run_step

    def begin(self, base: ConvertedComponent) -> tuple[TrainState, Params]:
        """Return what `Trainer.begin` returns; the network is read block by block."""
        trained, fixed = initial_log_variance(jax.random.key(self.settings.seed))
        stored = StackedParams(base, self.network.abstract, "float32")
        names = [name for part in self.network.parts for name in part]

        def pieces() -> Iterator[tuple[str, Params]]:
            yield OUTER, {"network": stored.outer(), "log_variance": trained}
            for index in range(self.network.num_blocks):
                yield f"block-{index:03d}", {"network": {"blocks": stored.part(index, names)}}

        return self.initial_from(pieces()), {"log_variance": fixed}

    def initial(self, params: Params) -> TrainState:
        """Return the state before the first step."""
        return self.initial_from(iter(split_pieces(params).items()))

    def initial_from(self, pieces: Iterator[tuple[str, Params]]) -> TrainState:
        """Return it from pieces as `split_pieces` names them, one by one: the device holds the state of one."""
        averages = self.settings.optimizer.ema_rate is not None
        params, optimizer, average = {}, {}, {}
        for name, piece in pieces:
            wide = jax.tree.map(_wide, self._put(piece, host=False))
            params[name] = self._put(wide, host=True)
            optimizer[name] = self._put(self.optimizer.init(wide), host=True)
            if averages:
                average[name] = self._put(jax.tree.map(jnp.copy, wide), host=True)
            jax.block_until_ready((params[name], optimizer[name], average.get(name)))  # before memory for the next one
        return self.place(TrainState(jnp.zeros((), jnp.int32), params, optimizer, average if averages else None))

    def place(self, state: TrainState) -> TrainState:
        """Return `state` in host memory, divided among the devices."""
        self._weights = None
        return TrainState(
            self.devices.put(state.step),
            {name: self._put(piece, host=True) for name, piece in state.params.items()},
            {name: self._put(piece, host=True) for name, piece in state.optimizer.items()},
            None if state.average is None else {n: self._put(piece, host=True) for n, piece in state.average.items()},
        )

    def trained(self, state: TrainState) -> Params:
        """Return the trained parameters, averaged if an average is kept."""
        return join_pieces(jax.tree.map(np.asarray, state.average or state.params))

    def _run_step(self, state: TrainState, frozen: Params, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        done = int(state.step)
        if self._weights is None or self._weights[0] != done:
            self._weights = done, self._on_device(state)
        weights, self._weights = self._weights[1], None
        draws = self._draw(jax.random.fold_in(key, state.step), shape=batch.latents.shape)
        metrics, gradients = self.gradients(weights, frozen, batch, draws)
        factor = self._clipping(gradients)
        averages = state.average is not None
        params, optimizer, average = {}, {}, {}
        going: Any = ()
        for name, held in self._pieces_ahead(state):
            weights, held = self._update(weights, gradients, held, factor, state.step, _index(name))
            back = tuple(self._put(each, host=True) for each in held)
            del held  # so that its memory is free as soon as it is copied
            # Nothing else would keep this loop from asking for memory for all pieces before the first one is done.
            jax.block_until_ready(going)
            params[name], optimizer[name], average[name] = going = back
        self._weights = done + 1, weights
        return TrainState(state.step + 1, params, optimizer, average if averages else None), metrics

    def _pieces_ahead(self, state: TrainState) -> Iterator[tuple[str, Any]]:
        """Yield every piece's (weights, optimizer's state, average) on the device, the next one on its way already.

        They are taken out of `state`: kept to the end of the step, it would need as much memory as the new one again.
        """
        names = list(state.params)
        held: tuple[Any, ...] = (state.params, state.optimizer, state.average or dict.fromkeys(names))

        def fetch(name: str) -> Any:
            return tuple(self._put(each.pop(name), host=False) for each in held)

        coming = fetch(names[0])
        for name, after in zip(names, [*names[1:], None], strict=True):
            here, coming = coming, None if after is None else fetch(after)
            yield name, here

    def _clip_factor(self, gradients: Params) -> jax.Array:
        cleaned, _ = zero_non_finite().update(jax.tree.map(_wide, gradients), optax.EmptyState())
        norm = optax.tree.norm(cleaned)
        limit = self.settings.optimizer.clip_norm
        return jnp.where(norm < limit, jnp.ones_like(norm), limit / norm)

    def _update_piece(self, weights: Params, gradients: Params, held: Any, factor: Any, step: Any, index: Any) -> Any:
        old, optimizer, average = held
        gradient, _ = zero_non_finite().update(jax.tree.map(_wide, _piece(gradients, index)), optax.EmptyState())
        updates, optimizer = self.optimizer.update(jax.tree.map(lambda g: factor * g, gradient), optimizer, old)
        params: Any = optax.apply_updates(old, updates)
        if average is not None:
            assert self._gamma is not None
            average = update_average(average, params, step, self._gamma)
        return self._with_piece(weights, params, index), (params, optimizer, average)

    def _with_piece(self, weights: Params, piece: Params, index: Any) -> Params:
        """`weights` with a piece's float32 values in their places."""
        leaves = dict(flatten(weights))
        for path, new in flatten(piece):
            weight = leaves[path]
            narrow = new.astype(weight.dtype)
            leaves[path] = narrow if index is None else weight.at[index].set(narrow)
        return self._shared(unflatten(leaves))

    def _on_device(self, state: TrainState) -> Params:
        """Return the parameters that have gradients: the network in the computation's dtype, the log-variance."""
        described = jax.eval_shape(lambda pieces: jax.tree.map(_wide, join_pieces(pieces)), state.params)
        dtypes = {"network": self.dtype}

        def empty() -> Params:
            return {
                part: jax.tree.map(lambda leaf, p=part: jnp.zeros(leaf.shape, dtypes.get(p, leaf.dtype)), tree)
                for part, tree in described.items()
            }

        shardings = self.devices.shardings(described, params_specs(described, self.devices))
        weights = jax.jit(empty, out_shardings=shardings)()
        for name, piece in state.params.items():
            weights = self._fill(weights, self._put(piece, host=False), _index(name))
            jax.block_until_ready(weights)  # as above
        return weights

    def _put(self, tree: Any, *, host: bool) -> Any:
        return self.devices.put(tree, _specs(tree, self.devices), host=host)


def split_pieces(params: Params) -> dict[str, Params]:
    """Split trained parameters into pieces: one for each block, without the stack's axis, and one for the rest."""
    leaves = dict(flatten(params))
    stacked = {path: leaf for path, leaf in leaves.items() if path.startswith(BLOCKS)}
    pieces: dict[str, Params] = {OUTER: unflatten({path: leaf for path, leaf in leaves.items() if path not in stacked})}
    for index in range(len(next(iter(stacked.values())))):
        pieces[f"block-{index:03d}"] = unflatten({path: leaf[index] for path, leaf in stacked.items()})
    return pieces


def join_pieces(pieces: Params) -> Params:
    """Join pieces to trained parameters, the inverse of `split_pieces`; numpy arrays stay on the host."""
    blocks = [dict(flatten(pieces[name])) for name in sorted(pieces) if name != OUTER]
    stack = np.stack if isinstance(next(iter(blocks[0].values())), np.ndarray) else jnp.stack
    stacked = {path: stack([block[path] for block in blocks]) for path in blocks[0]}
    return unflatten(dict(flatten(pieces[OUTER])) | stacked)


def _index(name: str) -> jax.Array | None:
    """Which block a piece is."""
    return None if name == OUTER else jnp.int32(name.removeprefix("block-"))


def _piece(tree: Params, index: Any) -> Params:
    """Return a piece of a tree like the trained parameters: block `index`, or the rest if it is None."""
    leaves = {path: leaf for path, leaf in flatten(tree) if path.startswith(BLOCKS) != (index is None)}
    return unflatten(leaves if index is None else {path: leaf[index] for path, leaf in leaves.items()})


def _specs(tree: Any, devices: DeviceMesh) -> Any:
    """Return how the arrays of a piece, or of its optimizer's state, are divided: each along an axis that divides."""
    if devices.alone:
        return REPLICATED
    return jax.tree.map(lambda leaf: _spec(leaf, devices), tree)


def _spec(leaf: Any, devices: DeviceMesh) -> P:
    return sharded_specs({"array": jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)}, devices)["array"]


def _wide(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.float32)
