"""Adapters beside a streamed network: the gradients and steps of a resident one."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jax_interp.nn.params import flatten
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.train.steps.step import Trainer
from jax_interp.train.steps.streamed import StreamedTrainer
from tests import golden
from tests.tolerances import TRAINING_F32
from tests.train.golden_steps import inputs_of, load
from tests.train.steps.test_lora import LORA, lora_params

SETTINGS = replace(LORA, batch_size=2, optimizer=replace(LORA.optimizer, learning_rate=1e-3, warmup_steps=0))


def start(converted, trainer):
    return trainer.begin(find_component(converted, "diffusion_transformer"))


@pytest.mark.slow
def test_upstreams_step(converted):
    """The recorded gradients of a resident network."""
    config, adapter, everything = lora_params(converted)
    trainer = StreamedTrainer(config, replace(LORA, stream_base=True))
    _, frozen = start(converted, trainer)
    frozen = {"network": frozen["network"], "log_variance": everything["log_variance"]}
    batch, draws = inputs_of("video2world", load("T3_video2world_c2"), known=2)
    metrics, gradients = trainer.gradients(adapter, frozen, batch, draws)
    expected, theirs = Trainer(config, LORA).gradients(adapter, everything, batch, draws)
    assert float(metrics.loss) == pytest.approx(float(load("T4_lora")["loss"]), rel=TRAINING_F32)
    assert float(metrics.loss) == pytest.approx(float(expected.loss), rel=1e-6)
    ours = dict(flatten(gradients))
    for path, values in flatten(theirs):
        assert golden.relative_l2(ours[path], values) < TRAINING_F32, path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accumulate", "shape"),
    [
        pytest.param(1, MeshShape(), marks=pytest.mark.thorough),
        (2, MeshShape()),
        (1, MeshShape(data=2)),
    ],
    ids=["one pass", "two passes", "two devices"],
)
def test_steps_are_those_of_a_resident_network(converted, accumulate, shape):
    settings = replace(SETTINGS, accumulate=accumulate)
    batch, _ = inputs_of("interpolator", load("T1_interpolator_float32"))
    config = find_component(converted, "diffusion_transformer").config
    states, losses, norms = [], [], []
    for trainer in (
        Trainer(config, settings),
        StreamedTrainer(config, replace(settings, stream_base=True), DeviceMesh(shape)),
    ):
        state, frozen = start(converted, trainer)
        for _ in range(2):
            state, metrics = trainer.step(state, frozen, batch, jax.random.key(4))
            losses.append(float(metrics.loss))
            norms.append(float(metrics.gradient_norm))
        states.append(state)
    assert losses[2:] == pytest.approx(losses[:2], rel=TRAINING_F32)
    assert norms[-1] > 0
    for ours, theirs in zip(*(jax.tree.leaves(state.params) for state in states), strict=True):
        assert np.abs(np.asarray(ours) - np.asarray(theirs)).max() < 3e-4


def test_blocks_stay_on_the_host(converted):
    config = find_component(converted, "diffusion_transformer").config
    _, frozen = start(converted, StreamedTrainer(config, replace(LORA, stream_base=True)))
    assert "blocks" not in frozen["network"]
