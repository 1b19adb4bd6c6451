"""States on several devices: how they lie, and that their steps are those of one device."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.config import DiTConfig
from jax_interp.nn.params import flatten
from jax_interp.nn.rotary import rotary_angles
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.train.objective.log_variance import initial_log_variance
from jax_interp.train.settings import LoraSettings, OptimizerSettings, TrainSettings
from jax_interp.train.steps.lora import split_adapter
from jax_interp.train.steps.state import initial_state, params_specs, place_state
from jax_interp.train.steps.step import Batch, Trainer
from tests import golden

CONFIG = DiTConfig(
    width=32, num_heads=2, head_width=16, num_blocks=2, mlp_width=64, text_width=8, adaln_rank=4, grid=(3, 8, 8)
)
SETTINGS = TrainSettings(
    steps=100, batch_size=8, dtype="float32", optimizer=OptimizerSettings(learning_rate=1e-3, warmup_steps=0)
)
MOVED_APART = 3e-4
"""Weights after two steps of 1e-3: Adam divides by gradients near zero, of which sums in another order differ."""


def tiny_batch(rows):
    """Random latents and texts."""
    draw = np.random.default_rng(0)
    angles = rotary_angles((3, 2, 3), 16, fps=24, ratio=(2.0, 1.0, 1.0), precision="float32")
    return Batch(
        jnp.asarray(draw.standard_normal((rows, 3, 4, 6, 16)), jnp.float32),
        jnp.asarray(draw.standard_normal((rows, 5, 8)), jnp.float32),
        jnp.broadcast_to(angles, (rows, *angles.shape)),
    )


def run(settings, shape="data=1", steps=2, batch_size=8):
    """The state and the metrics after some steps, as numpy."""
    trainer = Trainer(CONFIG, settings, DeviceMesh(MeshShape.parse(shape)))
    trained, fixed = initial_log_variance(jax.random.key(1))
    network = trainer.network.random_params(0)
    params, frozen = {"network": network, "log_variance": trained}, {"log_variance": fixed}
    if settings.lora is not None:
        adapter, base = split_adapter(network)
        params, frozen = {"network": adapter}, {"network": base, "log_variance": {**trained, **fixed}}
    state = place_state(initial_state(params, trainer.optimizer, averages=True), trainer.devices)
    frozen = trainer.devices.put(frozen, params_specs(frozen, trainer.devices))
    batch = tiny_batch(batch_size)
    losses = []
    for _ in range(steps):
        state, metrics = trainer.step(state, frozen, batch, jax.random.key(2))
        losses.append(float(metrics.loss))
    return state, losses


ADAPTER, ACCUMULATED = replace(SETTINGS, lora=LoraSettings(rank=4)), replace(SETTINGS, accumulate=2)
alone = cache(run)


def furthest(ours, theirs):
    """The largest difference between the arrays of two trees."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(np.abs(np.asarray(mine) - np.asarray(other)).max()) for mine, other in pairs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        pytest.param(SETTINGS, "data=2", marks=pytest.mark.thorough),
        pytest.param(SETTINGS, "data=4", marks=pytest.mark.thorough),
        (SETTINGS, "data=8"),
        (SETTINGS, "data=2,sequence=2"),
        pytest.param(SETTINGS, "data=2,tensor=2", marks=pytest.mark.thorough),
        (ADAPTER, "data=4,tensor=2"),
        pytest.param(ADAPTER, "data=2", marks=pytest.mark.thorough),
        pytest.param(ACCUMULATED, "data=2", marks=pytest.mark.thorough),
    ],
    ids=["2", "4", "8", "2x2", "2x2 weights", "adapter 4x2 weights", "adapter 2", "accumulated 2"],
)
def test_several_devices_train_as_one(settings, shape):
    (state, losses), (theirs, their_losses) = alone(settings), run(settings, shape)
    assert their_losses == pytest.approx(losses, rel=1e-5)
    assert furthest(state.params, theirs.params) < MOVED_APART
    for mine, yours in zip(jax.tree.leaves(state.optimizer), jax.tree.leaves(theirs.optimizer), strict=True):
        if np.any(np.asarray(mine)):
            assert golden.relative_l2(yours, mine) < 1e-3


@pytest.mark.slow
def test_another_learning_rate_is_noticed():
    settings = replace(SETTINGS, optimizer=replace(SETTINGS.optimizer, learning_rate=2e-3))
    assert furthest(alone(SETTINGS)[0].params, run(settings)[0].params) > MOVED_APART


@pytest.mark.slow
def test_parameters_moments_and_averages_are_divided():
    state, _ = run(SETTINGS, "data=4", steps=1)
    path = "network/blocks/mlp/up/kernel"
    moments = [part for part in jax.tree.leaves(state.optimizer) if part.shape == (2, 32, 64)]
    assert state.average is not None
    kernels = [dict(flatten(tree))[path] for tree in (state.params, state.average)]
    assert len(moments) == 2
    for array in (*kernels, *moments):
        assert array.sharding.shard_shape(array.shape) in ((2, 8, 64), (2, 32, 16))
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    here = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    assert here < 0.3 * total


def test_a_fresh_state_is_float32_and_starts_its_average_at_the_weights():
    params = {"network": {"blocks": {"kernel": jnp.ones((2, 3), jnp.bfloat16)}}}
    state = initial_state(params, Trainer(CONFIG, SETTINGS).optimizer, averages=True)
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.average))} == {jnp.dtype("float32")}
    assert state.average is not None
    assert np.array_equal(state.average["network"]["blocks"]["kernel"], np.ones((2, 3)))
    assert int(state.step) == 0
