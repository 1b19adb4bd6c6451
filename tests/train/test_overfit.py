"""A tiny network that sees one pair again and again learns what lies between its ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.config import DiTConfig
from jax_interp.nn.rotary import rotary_angles
from jax_interp.train.objective.log_variance import initial_log_variance
from jax_interp.train.objective.noise import make_draws
from jax_interp.train.settings import OptimizerSettings, TrainSettings
from jax_interp.train.steps.state import initial_state
from jax_interp.train.steps.step import Batch, Trainer

CONFIG = DiTConfig(
    width=32, num_heads=2, head_width=16, num_blocks=2, mlp_width=64, text_width=8, adaln_rank=8, grid=(3, 8, 8)
)
SETTINGS = TrainSettings(
    steps=400,
    batch_size=8,
    dtype="float32",
    optimizer=OptimizerSettings(learning_rate=3e-3, warmup_steps=20, weight_decay=0.0, ema_rate=0.1),
)


@pytest.mark.slow
def test_the_error_of_one_pair_falls():
    trainer = Trainer(CONFIG, SETTINGS)
    trained, fixed = initial_log_variance(jax.random.key(1))
    params = {"network": trainer.network.random_params(0), "log_variance": trained}
    state, frozen = initial_state(params, trainer.optimizer, averages=True), {"log_variance": fixed}
    generator = np.random.default_rng(0)
    pair = 0.5 * generator.standard_normal((1, 3, 4, 4, 16)).astype(np.float32)
    angles = rotary_angles((3, 2, 2), 16, fps=24, ratio=(2.0, 1.0, 1.0), precision="float32")
    batch = Batch(
        jnp.repeat(pair, 8, 0), jnp.zeros((8, 4, 8), jnp.float32), jnp.broadcast_to(angles, (8, *angles.shape))
    )
    asked = make_draws(jax.random.key(9), batch.latents.shape, SETTINGS.noise)

    def error(params):
        return float(trainer.gradients(params, frozen, batch, asked)[0].squared_error)

    before = error(state.params)
    key = jax.random.key(2)
    for _ in range(SETTINGS.steps):
        state, _ = trainer.step(state, frozen, batch, key)
    assert error(state.params) < 0.1 * before
    assert error(state.average) < 0.1 * before
