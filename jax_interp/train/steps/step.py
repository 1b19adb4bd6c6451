"""The optimizer step, one compiled function of state, batch and key."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jax_interp.config import DiTConfig
from jax_interp.errors import UsageError
from jax_interp.models.dit import DiT
from jax_interp.nn.params import StackedNetwork, flatten, unflatten
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.loading import load_params
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.sharding import gathered_specs
from jax_interp.train.objective.forward import ForwardInputs, forward
from jax_interp.train.objective.log_variance import initial_log_variance, log_variance
from jax_interp.train.objective.loss import NetworkInputs, denoised_latents, loss_terms, make_network_inputs, total_loss
from jax_interp.train.objective.noise import Draws, make_draws
from jax_interp.train.optimization.ema import exponent, update_average
from jax_interp.train.optimization.optimizer import gradient_norm, make_optimizer
from jax_interp.train.settings import TrainSettings
from jax_interp.train.steps.lora import adapt, draw_adapter, split_adapter
from jax_interp.train.steps.state import ROWS, TrainState, initial_state, params_specs, place_state
from jax_interp.types import Latents, Params, Text


class Batch(NamedTuple):
    """The samples of one optimizer step."""

    latents: Latents
    """Clean latents on the model's scale (`diffusion.sample.to_model_scale`), float32."""
    text: Text
    """Text embeddings padded with zeros."""
    angles: Float[Array, "B L half_K"]
    """Rotary angles (`nn.rotary.rotary_angles`) at the frame rate of every sample."""


class Metrics(NamedTuple):
    """The metrics of a step, float32."""

    loss: Float[Array, ""]
    weighted_error: Float[Array, ""]
    """The mean of the error times its weight, without the log-variance."""
    squared_error: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    """The global norm of the gradients before clipping."""


def forward_inputs(batch: Batch, draws: Draws, noisy: NetworkInputs) -> ForwardInputs:
    """Return what the network reads of a batch whose noise is drawn."""
    text = apply_text_dropout(batch, draws)
    return ForwardInputs(noisy.scaled, noisy.c_noise, text, draws.indicator, batch.angles)


class Trainer:
    """The compiled training step of one network on some devices.

    ```python
    trainer = Trainer(config, settings)
    state, frozen = trainer.begin(base)
    state, metrics = trainer.step(state, frozen, batch, key)
    ```

    `frozen` holds what is not trained (the log-variance's features; of an adapter also the network) and has the same
    structure as the trained parameters. The step donates the state that it is given.
    """

    def __init__(self, config: DiTConfig, settings: TrainSettings, devices: DeviceMesh | None = None):
        """Raise `UsageError` if the batch does not divide among the devices; nothing is read or compiled."""
        self.settings = settings
        self.network_config = config
        self.devices = devices or DeviceMesh()
        _check_rows(settings, self.devices)
        self.dtype = jnp.dtype(settings.dtype)
        self.network = network_of(config, settings)
        self.optimizer = make_optimizer(settings.optimizer, settings.steps)
        rate = settings.optimizer.ema_rate
        self._gamma = None if rate is None else exponent(rate)
        options = {"xla_allow_excess_precision": False}
        self.step: Callable[..., tuple[TrainState, Metrics]] = jax.jit(
            self._with_numerics(self._step), donate_argnums=0, compiler_options=options
        )
        self.gradients: Callable[..., tuple[Metrics, Params]] = jax.jit(
            self._with_numerics(self._gradients), compiler_options=options
        )

    def begin(self, base: ConvertedComponent) -> tuple[TrainState, Params]:
        """Return the state before the first step, and the frozen parameters, from the network `base`.

        Raises:
            CheckpointError: `base` is damaged.
        """
        trained, fixed = initial_log_variance(jax.random.key(self.settings.seed))
        if self.settings.lora is None:
            params = {"network": self._read(base, "float32"), "log_variance": trained}
            return self.initial(params), {"log_variance": fixed}
        frozen = {"network": self._read(base, self.settings.dtype), "log_variance": {**trained, **fixed}}
        return self.initial({"network": self.initial_adapter()}), frozen

    def initial_adapter(self) -> Params:
        """Return an adapter that has no effect yet."""
        lora = self.settings.lora
        assert lora is not None
        return draw_adapter(split_adapter(self.network.abstract)[0], lora.rank, jax.random.key(self.settings.seed))

    def _read(self, base: ConvertedComponent, dtype: str) -> Params:
        """Return all parameters of `base`, every device reading its share."""
        abstract = network_of(base.config, replace(self.settings, lora=None, stream_base=False)).abstract
        specs = params_specs(abstract, self.devices)
        target = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            abstract,
            self.devices.shardings(abstract, specs),
        )
        return load_params(base, target, dtype)

    def initial(self, params: Params) -> TrainState:
        """Return the state before the first step, placed on the devices."""
        placed = params if self.devices.alone else self.devices.put(params, params_specs(params, self.devices))
        averages = self.settings.optimizer.ema_rate is not None
        return self.place(initial_state(placed, self.optimizer, averages=averages))

    def place(self, state: TrainState) -> TrainState:
        """Place `state` on the devices."""
        return place_state(state, self.devices)

    def trained(self, state: TrainState) -> Params:
        """Return the trained parameters, averaged if an average is kept."""
        return state.average or state.params

    def _with_numerics(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compute float32 products in full in a float32 run: GPUs would otherwise round the operands to tf32."""

        def run(*arguments: Any) -> Any:
            with jax.default_matmul_precision("highest" if self.settings.dtype == "float32" else "default"):
                return function(*arguments)

        return run

    def _step(self, state: TrainState, frozen: Params, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        draws = make_draws(jax.random.fold_in(key, state.step), batch.latents.shape, self.settings.noise)
        metrics, gradients = self._gradients(state.params, frozen, batch, draws)
        return self._apply(state, gradients), metrics

    def _apply(self, state: TrainState, gradients: Params) -> TrainState:
        """Return the state after an optimizer step along `gradients`."""
        updates, optimizer = self.optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            assert self._gamma is not None
            average = update_average(average, params, state.step, self._gamma)
        return TrainState(state.step + 1, params, optimizer, average)  # pyright: ignore[reportArgumentType]

    def _gradients(self, params: Params, frozen: Params, batch: Batch, draws: Draws) -> tuple[Metrics, Params]:
        """Return metrics and gradients of a batch, part after part if gradients are accumulated."""
        parts = self.settings.accumulate
        evaluate = jax.value_and_grad(partial(self._loss, frozen=frozen), has_aux=True)
        if parts == 1:
            (_, metrics), gradients = evaluate(params, self._spread((batch, draws)))
        else:
            split = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), (batch, draws))

            def add(total: Any, part: Any) -> tuple[Any, None]:
                (_, metrics), gradients = evaluate(params, self._spread(part))
                return jax.tree.map(
                    lambda sum, new: sum + new.astype(jnp.float32) / parts, total, (metrics, gradients)
                ), None

            wide = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), params)
            zeros = Metrics(*[jnp.zeros(())] * 4), wide
            (metrics, gradients), _ = jax.lax.scan(add, zeros, split)
        gradients = self._shared(gradients)
        return metrics._replace(gradient_norm=gradient_norm(gradients)), gradients

    def _loss(self, params: Params, inputs: tuple[Batch, Draws], *, frozen: Params) -> tuple[Array, Metrics]:
        batch, draws = inputs
        everything = unflatten(dict(flatten(frozen)) | dict(flatten(params)))
        noisy = make_network_inputs(batch.latents, draws)
        output = forward(
            self.network,
            everything["network"],
            forward_inputs(batch, draws, noisy),
            dtype=self.dtype,
            learned_positions=self.settings.learned_positions,
            keep=self.settings.keep,
            gather=self._gather,
        )
        return self._loss_of(output, noisy, inputs, everything.get("log_variance"))

    def _loss_of(
        self, output: Latents, noisy: NetworkInputs, inputs: tuple[Batch, Draws], weighing: Params | None
    ) -> tuple[Array, Metrics]:
        """Return the loss for the network's `output`; `weighing` are the log-variance's parameters."""
        batch, draws = inputs
        terms = loss_terms(denoised_latents(output, noisy, batch.latents, draws), batch.latents, draws.sigma)
        uncertainty = None
        if self.settings.loss.log_variance:
            assert weighing is not None
            uncertainty = log_variance(weighing, weighing, noisy.c_noise)
        elements = batch.latents[0, 0].size
        loss = total_loss(terms, uncertainty, self.settings.loss.reduce, elements)
        return loss, Metrics(loss, terms.weighted.mean(), terms.squared.mean(), jnp.zeros(()))

    def _spread(self, rows: Any) -> Any:
        """Shard samples over the devices."""
        if self.devices.alone:
            return rows
        return jax.lax.with_sharding_constraint(rows, self.devices.shardings(rows, ROWS))

    def _gather(self, block: Params) -> Params:
        """Gather a block's weights, of which every device has a share."""
        if self.devices.alone:
            return block
        return jax.lax.with_sharding_constraint(block, self.devices.shardings(block, gathered_specs(block)))

    def _shared(self, params: Params) -> Params:
        if self.devices.alone:
            return params
        specs = params_specs(params, self.devices)
        return jax.lax.with_sharding_constraint(params, self.devices.shardings(params, specs))


def _check_rows(settings: TrainSettings, devices: DeviceMesh) -> None:
    """Raise `UsageError` unless every device has equally many samples in every pass."""
    places = devices.shape.data * devices.shape.sequence
    if settings.batch_size // settings.accumulate % places:
        raise UsageError(
            f"--batch-size {settings.batch_size} in {settings.accumulate} pass(es) does not divide among {places}"
            f" devices (--mesh {devices.shape}); expected a multiple of {places * settings.accumulate}"
        )


def apply_text_dropout(batch: Batch, draws: Draws) -> Text:
    """Return the text embeddings, with zeros where the draws drop a text."""
    return batch.text * draws.text_kept[:, None, None].astype(batch.text.dtype)


def network_of(config: DiTConfig, settings: TrainSettings) -> StackedNetwork[DiT]:
    """Return the transformer, with adapters if these are trained; its dtype is that of the computation."""
    dtype = jnp.dtype(settings.dtype)

    def build(rngs: Any) -> DiT:
        network = DiT(config, dtype=dtype, rngs=rngs)
        return network if settings.lora is None else adapt(network, settings.lora, rngs)

    return StackedNetwork(build)
