"""An adapter trained beside a network whose blocks wait in host memory.

A step streams every block through the device twice: in the forward pass, and in the backward pass, which computes it
again with gradients. The device holds the input of every block, the adapter with its optimizer's state, and the blocks
that are on their way.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jax_interp.config import DiTConfig
from jax_interp.models.dit import DiTBlockInputs
from jax_interp.nn.params import flatten, unflatten
from jax_interp.runtime.block_stream import BlockStream, PartCall, PartResult, completion_marker
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.loading import StackedParams
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.sharding import sharded_specs
from jax_interp.train.objective.forward import cast, embed, project, run_block
from jax_interp.train.objective.log_variance import initial_log_variance
from jax_interp.train.objective.loss import NetworkInputs, make_network_inputs
from jax_interp.train.objective.noise import Draws, make_draws
from jax_interp.train.optimization.optimizer import gradient_norm
from jax_interp.train.settings import TrainSettings
from jax_interp.train.steps.state import TrainState
from jax_interp.train.steps.step import Batch, Metrics, Trainer, forward_inputs, network_of
from jax_interp.types import Params, Tokens

FORWARD, BACKWARD = 0, 1


class StreamedTrainer(Trainer):
    """A `Trainer` of adapters; `begin` comes first, and `frozen` holds the network without its blocks."""

    def __init__(self, config: DiTConfig, settings: TrainSettings, devices: DeviceMesh | None = None):
        super().__init__(config, settings, devices)
        rounding = {"xla_allow_excess_precision": False}
        jit = partial(jax.jit, compiler_options=rounding)
        self._start = jit(self._with_numerics(self._start_pass))
        self._forward = jit(self._with_numerics(self._run_block))
        self._backward = jit(self._with_numerics(self._run_block_back), donate_argnums=(1, 2))
        self._end = jit(self._with_numerics(self._end_pass))
        self._draw = jit(partial(make_draws, settings=settings.noise), static_argnames="shape")
        self._add = jit(lambda total, new: jax.tree.map(lambda a, b: a + b / settings.accumulate, total, new))
        self._update = jit(self._apply_gradients, donate_argnums=0)
        self._blocks: BlockStream | None = None
        self.step = self._run_step
        self.gradients = self._accumulated

    def begin(self, base: ConvertedComponent) -> tuple[TrainState, Params]:
        """Return what `Trainer.begin` returns, without the blocks, which are read into host memory."""
        trained, fixed = initial_log_variance(jax.random.key(self.settings.seed))
        plain = network_of(base.config, replace(self.settings, lora=None, stream_base=False))
        stored = StackedParams(base, plain.abstract, self.settings.dtype)
        names = [name for part in plain.parts for name in part]
        self.keep_blocks(stored.part(index, names) for index in range(plain.num_blocks))
        frozen = {"network": self.devices.put(stored.outer()), "log_variance": {**trained, **fixed}}
        return self.initial({"network": self.initial_adapter()}), frozen

    def keep_blocks(self, blocks: Iterable[Params]) -> None:
        """Bring the frozen blocks, in their order and in the computation's dtype, to host memory; `begin` does this."""
        plain = network_of(self.network_config, replace(self.settings, lora=None, stream_base=False))
        specs = sharded_specs(plain.block_abstract, self.devices)
        host = [self.devices.keep_on_host(block, specs) for block in blocks]
        count = len(host)
        order = [(index, FORWARD) for index in range(count)] + [(index, BACKWARD) for index in reversed(range(count))]
        self._blocks = BlockStream(lambda at: host[at[0]], order, lambda at, block: self.devices.put(block, specs))

    def _run_step(self, state: TrainState, frozen: Params, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        draws = self._draw(jax.random.fold_in(key, state.step), shape=batch.latents.shape)
        metrics, gradients = self._accumulated(state.params, frozen, batch, draws)
        state, norm = self._update(state, gradients)
        return state, metrics._replace(gradient_norm=norm)

    def _accumulated(self, params: Params, frozen: Params, batch: Batch, draws: Draws) -> tuple[Metrics, Params]:
        parts = self.settings.accumulate
        split = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), (batch, draws))
        total: Any = jax.tree.map(jnp.zeros_like, (Metrics(*[jnp.zeros(())] * 4), params))
        for index in range(parts):
            total = self._add(total, self._one_pass(params, frozen, jax.tree.map(lambda x, i=index: x[i], split)))
        return total

    def _one_pass(self, params: Params, frozen: Params, rows: tuple[Batch, Draws]) -> tuple[Metrics, Params]:
        """Return metrics and gradients of some samples."""
        assert self._blocks is not None, "begin comes first"
        adapter = params["network"]["blocks"]
        tokens, inputs, noisy = self._start(frozen, rows)
        kept: list[Tokens] = []
        metrics: Metrics | None = None

        def apply(call: PartCall, state: Any) -> PartResult[Any]:
            nonlocal metrics
            number = jnp.int32(call.block)
            if call.part == FORWARD:
                kept.append(state)
                after = self._forward(call.params, adapter, number, state, inputs)
            else:
                if metrics is None:  # the last block comes first
                    metrics, gradient = self._end(frozen, state, inputs, noisy, rows)
                    state = gradient, jax.tree.map(jnp.zeros_like, adapter)
                after = self._backward(call.params, *state, adapter, number, kept.pop(), inputs)
            return PartResult(after, completion_marker(after))

        _, gradients = self._blocks.run(apply, tokens)
        assert metrics is not None
        return metrics, {"network": {"blocks": gradients}}

    # Traced by `jit`.

    def _start_pass(self, frozen: Params, rows: tuple[Batch, Draws]) -> tuple[Tokens, DiTBlockInputs, NetworkInputs]:
        batch, draws = self._spread(rows)
        noisy = make_network_inputs(batch.latents, draws)
        tokens, inputs = embed(
            self.network,
            cast(frozen["network"], self.dtype),
            forward_inputs(batch, draws, noisy),
            self.settings.learned_positions,
        )
        return tokens, inputs, noisy

    def _run_block(
        self, block: Params, adapter: Params, index: Array, tokens: Tokens, inputs: DiTBlockInputs
    ) -> Tokens:
        here = jax.tree.map(lambda leaf: leaf[index], adapter)
        return self._adapted(block, here, tokens, inputs)

    def _run_block_back(
        self,
        block: Params,
        gradient: Tokens,
        gradients: Params,
        adapter: Params,
        index: Array,
        tokens: Tokens,
        inputs: DiTBlockInputs,
    ) -> tuple[Tokens, Params]:
        """Return the gradient at the block's input, and the adapter's gradients with those of this block added."""
        here = jax.tree.map(lambda leaf: leaf[index], adapter)
        _, pullback = jax.vjp(lambda adapter, x: self._adapted(block, adapter, x, inputs), here, tokens)
        of_adapter, before = pullback(gradient)
        return before, jax.tree.map(lambda all, new: all.at[index].set(new), gradients, of_adapter)

    def _adapted(self, block: Params, adapter: Params, tokens: Tokens, inputs: DiTBlockInputs) -> Tokens:
        everything = unflatten(dict(flatten(block)) | dict(flatten(adapter)))
        return run_block(self.network, self._gather(cast(everything, self.dtype)), tokens, inputs)

    def _end_pass(
        self,
        frozen: Params,
        tokens: Tokens,
        inputs: DiTBlockInputs,
        noisy: NetworkInputs,
        rows: tuple[Batch, Draws],
    ) -> tuple[Metrics, Tokens]:
        """Return metrics, and the gradient at the end of the residual stream."""

        def loss(tokens: Tokens) -> tuple[Array, Metrics]:
            outer = cast(frozen["network"], self.dtype)
            output = project(self.network, outer, tokens, inputs, rows[0].latents.shape)
            return self._loss_of(output, noisy, rows, frozen.get("log_variance"))

        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(tokens)
        return metrics, gradient

    def _apply_gradients(self, state: TrainState, gradients: Params) -> tuple[TrainState, Array]:
        gradients = self._shared(gradients)
        return self._apply(state, gradients), gradient_norm(gradients)
