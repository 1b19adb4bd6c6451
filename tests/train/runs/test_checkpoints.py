"""Checkpoints: bits, the newest few, leftovers, damage and full disks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_interp.errors import CheckpointError
from jax_interp.train.runs import checkpoints as module
from jax_interp.train.runs.checkpoints import Checkpoints
from jax_interp.train.steps.state import initial_state

OPTIMIZER = optax.adamw(1e-3)


def state_after(step):
    state = initial_state({"network": {"w": jnp.arange(6.0).reshape(2, 3) / 7}}, OPTIMIZER, averages=True)
    return state._replace(step=jnp.int32(step))


def abstract():
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state_after(0))


def test_a_state_comes_back_to_the_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(state_after(7), {"next": 3})
    restored = Checkpoints(tmp_path, keep=2).restore(7, abstract())
    assert restored.data_state == {"next": 3}
    assert jax.tree.structure(restored.state) == jax.tree.structure(state_after(7))
    assert all(
        np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (restored.state, state_after(7))), strict=True)
    )


def test_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 15):
        checkpoints.save(state_after(step), {})
    assert checkpoints.steps() == [10, 15]


def test_what_was_half_written_is_removed(tmp_path):
    (tmp_path / ".step-000000005" / "state").mkdir(parents=True)
    assert Checkpoints(tmp_path, keep=1).steps() == []
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_named_with_the_one_before(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10):
        checkpoints.save(state_after(step), {})
    (tmp_path / "step-000000010" / "place.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"step-000000010: damaged.*remove it to go on from step 5"):
        checkpoints.restore(10, abstract())


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state_after(5), {})

    def full(path, params):
        path.mkdir()
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module, "write_params", full)
    with pytest.raises(CheckpointError, match=r"No space left.*the checkpoint of step 5 stays.*--resume"):
        checkpoints.save(state_after(10), {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000005"]
