"""Training with the optimizer's state on the host: the same numbers, in other memory."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.train.objective.log_variance import initial_log_variance
from jax_interp.train.runs.checkpoints import Checkpoints
from jax_interp.train.steps.offloaded import OffloadedTrainer, join_pieces, split_pieces
from jax_interp.train.steps.step import Trainer
from tests import golden
from tests.train.steps.test_state import CONFIG, MOVED_APART, SETTINGS, furthest, tiny_batch

CLIPPED = replace(SETTINGS, batch_size=2, optimizer=replace(SETTINGS.optimizer, clip_norm=0.5))


def params_of(trainer):
    trained, fixed = initial_log_variance(jax.random.key(1))
    return {"network": trainer.network.random_params(0), "log_variance": trained}, {"log_variance": fixed}


def run(trainer, steps=2):
    params, frozen = params_of(trainer)
    state, losses = trainer.initial(params), []
    for _ in range(steps):
        state, metrics = trainer.step(state, frozen, tiny_batch(2), jax.random.key(2))
        losses.append(float(metrics.loss))
    return state, losses


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.thorough)])
def test_steps_are_those_of_a_device(dtype):
    settings = replace(CLIPPED, dtype=dtype)
    plain, offloaded = Trainer(CONFIG, settings), OffloadedTrainer(CONFIG, settings)
    (state, losses), (theirs, their_losses) = run(plain), run(offloaded)
    assert their_losses == pytest.approx(losses, rel=1e-5 if dtype == "float32" else 1e-2)
    assert furthest(plain.trained(state), offloaded.trained(theirs)) < (MOVED_APART if dtype == "float32" else 3e-3)
    assert furthest(plain.trained(state), params_of(plain)[0]) > 10 * MOVED_APART / 3


@pytest.mark.slow
def test_states_lie_on_the_host_and_gradients_do_not():
    trainer = OffloadedTrainer(CONFIG, CLIPPED)
    state, _ = run(trainer, steps=1)
    kinds = {leaf.sharding.memory_kind for leaf in jax.tree.leaves((state.params, state.optimizer, state.average))}
    assert kinds == {"pinned_host"}
    assert {leaf.sharding.memory_kind for leaf in jax.tree.leaves(trainer._weights)[1:]} == {"device"}


@pytest.mark.slow
def test_a_step_lets_go_of_the_state_that_it_has_used():
    """Old and new state together would be twice the memory of the host."""
    trainer = OffloadedTrainer(CONFIG, CLIPPED)
    params, frozen = params_of(trainer)
    before = trainer.initial(params)
    after, _ = trainer.step(before, frozen, tiny_batch(2), jax.random.key(2))
    assert before.params == before.optimizer == before.average == {}
    assert (
        list(after.params) == list(after.optimizer) == list(after.average or ()) == ["outer", "block-000", "block-001"]
    )


def test_pieces_and_back():
    params, _ = params_of(Trainer(CONFIG, CLIPPED))
    pieces = split_pieces(params)
    assert list(pieces) == ["outer", "block-000", "block-001"]
    assert (
        golden.relative_l2(
            pieces["block-001"]["network"]["blocks"]["mlp"]["up"]["kernel"],
            params["network"]["blocks"]["mlp"]["up"]["kernel"][1],
        )
        == 0
    )
    assert furthest(join_pieces(pieces), params) == 0


@pytest.mark.slow
@pytest.mark.thorough
def test_on_several_devices():
    spread = OffloadedTrainer(CONFIG, CLIPPED, DeviceMesh(MeshShape(data=2)))
    alone = OffloadedTrainer(CONFIG, CLIPPED)
    (state, losses), (theirs, their_losses) = run(alone), run(spread)
    assert their_losses == pytest.approx(losses, rel=1e-5)
    assert furthest(alone.trained(state), spread.trained(theirs)) < MOVED_APART


@pytest.mark.slow
def test_a_stored_state_goes_on_to_the_same_bits(tmp_path):
    trainer = OffloadedTrainer(CONFIG, CLIPPED)
    state, _ = run(trainer, steps=1)
    Checkpoints(tmp_path, 1).save(state, {})
    described = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    again = OffloadedTrainer(CONFIG, CLIPPED)
    restored = again.place(Checkpoints(tmp_path, 1).restore(1, described).state)
    _, frozen = params_of(trainer)
    (one, _), (other, _) = (
        each.step(before, frozen, tiny_batch(2), jax.random.key(2))
        for each, before in ((trainer, state), (again, restored))
    )
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))
