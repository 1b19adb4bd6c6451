"""The cases of `benchmarks.bench_train` on JAX: a trainer with random weights, its state and a batch.

Weights are drawn where they will lie, one block after the other, so that drawing takes no memory to speak of.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_interp.config import DIT_7B, DiTConfig
from jax_interp.models.dit import patch_grid
from jax_interp.nn.params import flatten, unflatten
from jax_interp.nn.rotary import rotary_angles
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.train.objective.forward import ForwardInputs, forward
from jax_interp.train.objective.log_variance import initial_log_variance
from jax_interp.train.settings import LoraSettings, OptimizerSettings, TrainSettings
from jax_interp.train.steps.offloaded import OUTER, OffloadedTrainer
from jax_interp.train.steps.state import params_specs
from jax_interp.train.steps.step import Batch, Trainer, network_of
from jax_interp.train.steps.streamed import StreamedTrainer
from jax_interp.types import Params

TINY = DiTConfig(
    width=64, num_heads=2, head_width=32, num_blocks=2, mlp_width=128, text_width=16, adaln_rank=8, grid=(4, 16, 16)
)
TINY_SIZE = (64, 96)
FPS, TEXT_TOKENS = 24.0, 512
NO_AVERAGE = OptimizerSettings(ema_rate=None)
"""The default of `train` for adapters; a full run keeps an average unless told otherwise."""
ADAPTER = TrainSettings(lora=LoraSettings(rank=8), optimizer=NO_AVERAGE)


@dataclass(frozen=True)
class Case:
    """A training case: what is trained, and how."""

    settings: TrainSettings
    devices: int = 1
    seconds: float | None = None
    """The goal for the seconds of a warm step."""
    gib: float | None = None
    """The goal for the allocator's peak on every device, in GiB."""
    backward: bool = True


CASES: dict[str, Case] = {
    "forward": Case(ADAPTER, backward=False),
    "lora": Case(ADAPTER, seconds=1.10, gib=19),
    "lora-kept": Case(replace(ADAPTER, keep="attention"), seconds=1.10, gib=19),
    "lora-products": Case(replace(ADAPTER, keep="products"), seconds=1.10),
    "lora-streamed": Case(replace(ADAPTER, stream_base=True), gib=8),
    "full-host": Case(TrainSettings(optimizer_on_host=True, optimizer=NO_AVERAGE)),
    "full-host-kept": Case(TrainSettings(optimizer_on_host=True, optimizer=NO_AVERAGE, keep="attention")),
    "full-host-average": Case(TrainSettings(optimizer_on_host=True)),
    "full-two-gpus": Case(TrainSettings(batch_size=2), devices=2, seconds=2.0, gib=76),
    "full-four-gpus": Case(TrainSettings(batch_size=4), devices=4),
    "full-eight-gpus": Case(TrainSettings(batch_size=8), devices=8),
    "full-two-gpus-no-average": Case(TrainSettings(batch_size=2, optimizer=NO_AVERAGE), devices=2, seconds=2.0, gib=76),
}


class Run(NamedTuple):
    """A case that is ready to run: `step(state)` is one optimizer step, and returns the next state and the loss."""

    step: Callable[[Any], tuple[Any, jax.Array]]
    state: Any
    program: Any = None
    """The compiled function, where a step is one program."""
    compile_seconds: float = 0.0
    """Seconds of its compilation; programs that a first step compiles are not counted."""


def config_and_size(tiny: bool, height: int, width: int) -> tuple[DiTConfig, tuple[int, int]]:
    """Return the network's configuration, and (height, width) in pixels."""
    return (TINY, TINY_SIZE) if tiny else (DIT_7B, (height, width))


def latents_shape(config: DiTConfig, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the latent shape (T, H, W, C) of a pair with the frames between."""
    return 3, size[0] // 8, size[1] // 8, config.latent_channels


def random_batch(config: DiTConfig, size: tuple[int, int], rows: int) -> Batch:
    """Return random latents and texts."""
    draw = np.random.default_rng(0)
    shape = latents_shape(config, size)
    grid = patch_grid((1, *shape), config.patch_size)
    angles = rotary_angles(grid, config.head_width, fps=FPS, ratio=config.rotary_ratio, precision="bfloat16")
    return Batch(
        jnp.asarray(draw.standard_normal((rows, *shape)), jnp.float32),
        jnp.asarray(draw.standard_normal((rows, TEXT_TOKENS, config.text_width)), jnp.float32),
        jnp.broadcast_to(jnp.asarray(angles), (rows, *angles.shape)),
    )


def random_leaf(key: jax.Array, path: str, shape: tuple[int, ...], dtype: Any, *, stacked: bool) -> jax.Array:
    """Return weights that keep activations near unit scale: normal over the root of the fan-in, norms 1."""
    layer = shape[1:] if stacked else shape
    if len(layer) < 2:
        return jnp.ones(shape, dtype)
    scale = 1.0 if path.startswith("positions/") else math.prod(layer[:-1]) ** -0.5

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.normal(key, layer, dtype) * jnp.asarray(scale, dtype)

    return jax.lax.map(draw, jax.random.split(key, shape[0])) if stacked else draw(key)


@cache
def drawing(path: str, shape: tuple[int, ...], dtype: Any, stacked: bool, sharding: Any) -> Callable[..., jax.Array]:
    """Compile `random_leaf`; all blocks of a network share the program."""
    draw = partial(random_leaf, path=path, shape=shape, dtype=dtype, stacked=stacked)
    return jax.jit(draw, out_shardings=sharding)


def random_network(abstract: Params, dtype: Any, devices: DeviceMesh, *, stacked: bool = True, seed: int = 0) -> Params:
    """Arrays like `abstract` on `devices`, the largest first; not `stacked`, it is a block or what is no block."""
    specs = dict(flatten(params_specs(abstract, devices)))
    leaves = dict(flatten(abstract))
    for number, (path, leaf) in enumerate(sorted(leaves.items(), key=lambda item: -math.prod(item[1].shape))):
        in_stack = stacked and path.startswith("blocks/")
        draw = drawing(path, leaf.shape, dtype, in_stack, devices.sharding(specs[path]))
        leaves[path] = jax.block_until_ready(draw(jax.random.fold_in(jax.random.key(seed), number)))
    return unflatten(leaves)


def prepare(case: Case, config: DiTConfig, size: tuple[int, int]) -> Run:
    """Draw the weights and the state of a case; nothing of the step is compiled yet."""
    devices = DeviceMesh(MeshShape(data=case.devices))
    batch = random_batch(config, size, case.settings.batch_size)
    if not case.backward:
        return _forward_alone(case, config, batch, devices)
    if case.settings.stream_base:
        return _stepping(*_streamed(case, config, devices), batch)
    if case.settings.optimizer_on_host:
        return _stepping(*_offloaded(case, config, devices), batch)
    return _resident(case, config, batch, devices)


def _forward_alone(case: Case, config: DiTConfig, batch: Batch, devices: DeviceMesh) -> Run:
    network = network_of(config, replace(case.settings, lora=None))
    params = random_network(network.abstract, jnp.bfloat16, devices)
    indicator = jnp.asarray([1.0, 0, 1]).reshape(1, 3, 1, 1, 1)

    @jax.jit
    def run(params: Params, batch: Batch) -> jax.Array:
        noise_level = jnp.full(1, 0.25)
        given = ForwardInputs(batch.latents, noise_level, batch.text, indicator, batch.angles)
        out = forward(network, params, given, dtype=jnp.bfloat16)
        return jnp.square(out).mean()

    started = time.perf_counter()
    program = run.lower(params, batch).compile()
    took = time.perf_counter() - started
    return Run(lambda state: (state, program(params, batch)), (), program, took)


def _resident(case: Case, config: DiTConfig, batch: Batch, devices: DeviceMesh) -> Run:
    trainer = Trainer(config, case.settings, devices)
    trained, fixed = initial_log_variance(jax.random.key(0))
    plain = network_of(config, case.settings.without_lora())
    if case.settings.lora is None:
        network = random_network(plain.abstract, jnp.float32, devices)
        state, frozen = trainer.initial({"network": network, "log_variance": trained}), {"log_variance": fixed}
        del network
    else:
        network = random_network(plain.abstract, jnp.bfloat16, devices)
        state = trainer.initial({"network": trainer.initial_adapter()})
        frozen = {"network": network, "log_variance": {**trained, **fixed}}
    key = jax.random.key(1)
    started = time.perf_counter()
    program = trainer.step.lower(state, frozen, batch, key).compile()  # type: ignore[attr-defined]
    took = time.perf_counter() - started

    def step(state: Any) -> tuple[Any, jax.Array]:
        state, metrics = program(state, frozen, batch, key)
        return state, metrics.loss

    return Run(step, state, program, took)


def _streamed(case: Case, config: DiTConfig, devices: DeviceMesh) -> tuple[Trainer, Any, Params]:
    trainer = StreamedTrainer(config, case.settings, devices)
    trained, fixed = initial_log_variance(jax.random.key(0))
    plain = network_of(config, replace(case.settings, lora=None, stream_base=False))
    trainer.keep_blocks(
        random_network(plain.block_abstract, jnp.bfloat16, devices, stacked=False, seed=index)
        for index in range(config.num_blocks)
    )
    outer = random_network(plain.outer_abstract, jnp.bfloat16, devices, stacked=False)
    frozen = {"network": outer, "log_variance": {**trained, **fixed}}
    return trainer, trainer.initial({"network": trainer.initial_adapter()}), frozen


def _offloaded(case: Case, config: DiTConfig, devices: DeviceMesh) -> tuple[Trainer, Any, Params]:
    trainer = OffloadedTrainer(config, case.settings, devices)
    trained, fixed = initial_log_variance(jax.random.key(0))

    def pieces() -> Iterator[tuple[str, Params]]:
        outer = random_network(trainer.network.outer_abstract, jnp.float32, devices, stacked=False)
        yield OUTER, {"network": outer, "log_variance": trained}
        for index in range(config.num_blocks):
            block = random_network(trainer.network.block_abstract, jnp.float32, devices, stacked=False, seed=index)
            yield f"block-{index:03d}", {"network": {"blocks": block}}

    return trainer, trainer.initial_from(pieces()), {"log_variance": fixed}


def _stepping(trainer: Trainer, state: Any, frozen: Params, batch: Batch) -> Run:
    key = jax.random.key(1)

    def step(state: Any) -> tuple[Any, jax.Array]:
        state, metrics = trainer.step(state, frozen, batch, key)
        return state, metrics.loss

    return Run(step, state)
