"""A whole step against the original's recorded ones: loss, gradients, and what changes them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.nn.params import flatten, unflatten
from jax_interp.train.settings import LossSettings
from jax_interp.train.steps.state import initial_state
from jax_interp.train.steps.step import Trainer
from tests import golden
from tests.tolerances import BF16_RATIO, TRAINING_F32
from tests.train.golden_steps import FLOAT32, PARAMETERS, by_upstream_name, inputs_of, load, params_of

FULL_GRADIENTS = (
    "net.affline_norm.weight",
    "net.blocks.block1.blocks.0.block.attn.to_q.1.weight",
    "net.blocks.block0.blocks.2.adaLN_modulation.1.weight",
)
LATENTS = {"interpolator": "T1_interpolator_float32", "video2world": "T3_video2world_c2"}


def run(converted, recorded, settings=FLOAT32, change=lambda trained, batch, draws: (trained, batch, draws), **options):
    """Metrics, and gradients by upstream's names."""
    inputs = "interpolator" if recorded.startswith("T1") else "video2world"
    config, trained, frozen = params_of(converted, settings)
    batch, draws = inputs_of(inputs, load(LATENTS[inputs]), **options)
    trained, batch, draws = change(trained, batch, draws)
    metrics, gradients = Trainer(config, settings).gradients(trained, frozen, batch, draws)
    return metrics, by_upstream_name(gradients)


def gradient_errors(gradients, recorded):
    """Relative errors: of every parameter's norm, and of the gradients that are recorded in full."""
    names = [name for name in PARAMETERS if len(recorded["grad_norm"]) == len(PARAMETERS) or "extra_pos" not in name]
    norms = np.array([np.linalg.norm(gradients[name].astype(np.float64)) for name in names])
    total = recorded["grad_norm_total"]
    errors = {"norms": np.abs(norms - recorded["grad_norm"]).max() / total}
    trained = recorded["grad_norm"] > 0
    errors["each norm"] = np.max(np.abs(norms - recorded["grad_norm"])[trained] / recorded["grad_norm"][trained])
    for name in (*FULL_GRADIENTS, "logvar.1.weight"):
        if f"grad.{name}" in recorded:
            errors[name] = golden.relative_l2(gradients[name], recorded[f"grad.{name}"])
    return errors


CASES = {
    "T1_interpolator_float32": (FLOAT32, {}),
    "T1_interpolator_float32_nologvar": (replace(FLOAT32, loss=LossSettings(log_variance=False)), {}),
    "T1_interpolator_float32_sum": (replace(FLOAT32, loss=LossSettings(reduce="sum")), {}),
    "T1_interpolator_float32_shipped_net": (replace(FLOAT32, learned_positions=False), {}),
    "T3_video2world_c0": (FLOAT32, {"known": 0}),
    "T3_video2world_c1": (FLOAT32, {"known": 1}),
    "T3_video2world_c2": (FLOAT32, {"known": 2}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_float32_loss_and_gradients_equal_upstreams(converted, name):
    settings, options = CASES[name]
    recorded = load(name)
    metrics, gradients = run(converted, name, settings, **options)
    assert abs(float(metrics.loss) / float(recorded["loss"]) - 1) < TRAINING_F32
    assert abs(float(metrics.weighted_error) / float(recorded["edm_loss"]) - 1) < TRAINING_F32
    assert abs(float(metrics.squared_error) / float(recorded["mse_loss"]) - 1) < TRAINING_F32
    assert abs(float(metrics.gradient_norm) / float(recorded["grad_norm_total"]) - 1) < TRAINING_F32
    errors = gradient_errors(gradients, recorded)
    assert max(errors.values()) < TRAINING_F32, errors


def test_dropped_texts_are_zero_rows(converted):
    def drop(trained, batch, draws):
        return trained, batch, draws._replace(text_kept=jnp.zeros(2))

    recorded = load("T1_interpolator_float32_keptnone")
    metrics, gradients = run(converted, "T1_interpolator_float32", change=drop)
    assert abs(float(metrics.loss) / float(recorded["loss"]) - 1) < TRAINING_F32
    errors = gradient_errors(gradients, recorded)
    assert max(errors.values()) < TRAINING_F32, errors


def nudged(tree, path):
    leaves = dict(flatten(tree))
    leaves[path] = leaves[path].at[(0,) * leaves[path].ndim].add(0.05)
    return unflatten(leaves)


CHANGES = {
    "a weight": lambda trained, batch, draws: (nudged(trained, "network/blocks/mlp/up/kernel"), batch, draws),
    "the log-variance": lambda trained, batch, draws: (nudged(trained, "log_variance/weights"), batch, draws),
    "a noise level": lambda trained, batch, draws: (trained, batch, draws._replace(sigma=draws.sigma * 1.001)),
    "noise on the known frames": lambda trained, batch, draws: (
        *(trained, batch),
        draws._replace(augment_noise=draws.augment_noise.at[0, 0, 0, 0, 0].add(0.5)),
    ),
    "which frames are known": lambda trained, batch, draws: (
        *(trained, batch),
        draws._replace(indicator=draws.indicator.at[:, 0].set(0)),
    ),
    "the text of a kept sample": lambda trained, batch, draws: (trained, batch._replace(text=batch.text * 1.01), draws),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_is_noticed(converted, change):
    recorded = load("T1_interpolator_float32")
    _, gradients = run(converted, "T1_interpolator_float32", change=CHANGES[change])
    assert max(gradient_errors(gradients, recorded).values()) > TRAINING_F32


@pytest.mark.slow
def test_bfloat16_is_as_accurate_as_upstreams(converted):
    oracle, upstream = load("T1_interpolator_float32"), load("T1_interpolator_bfloat16")
    settings = replace(FLOAT32, dtype="bfloat16")
    metrics, gradients = run(converted, "T1_interpolator_float32", settings, rotary_precision="bfloat16")
    theirs = abs(float(upstream["loss"]) - float(oracle["loss"]))
    assert abs(float(metrics.loss) - float(oracle["loss"])) < BF16_RATIO * theirs
    for name in FULL_GRADIENTS:
        error, known = (
            golden.relative_l2(values, oracle[f"grad.{name}"]) for values in (gradients[name], upstream[f"grad.{name}"])
        )
        assert error < BF16_RATIO * known, name


def random_batch(converted, rows=4):
    """(config, trained, frozen, batch of `rows`) on the golden network."""
    config, trained, frozen = params_of(converted)
    batch, _ = inputs_of("interpolator", load("T1_interpolator_float32"))
    return config, trained, frozen, jax.tree.map(lambda leaf: jnp.concatenate([leaf] * (rows // 2)), batch)


@pytest.mark.slow
def test_accumulated_steps_are_one_step(converted):
    config, trained, frozen, batch = random_batch(converted)
    outcomes = {}
    for parts in (1, 2, 4):
        settings = replace(FLOAT32, batch_size=4, accumulate=parts)
        trainer = Trainer(config, settings)
        state = initial_state(trained, trainer.optimizer, averages=True)
        outcomes[parts] = trainer.step(state, frozen, batch, jax.random.key(7))
    for parts in (2, 4):
        (state, metrics), (whole, expected) = outcomes[parts], outcomes[1]
        assert float(metrics.loss) == pytest.approx(float(expected.loss), rel=TRAINING_F32)
        assert float(metrics.gradient_norm) == pytest.approx(float(expected.gradient_norm), rel=TRAINING_F32)
        moments = zip(jax.tree.leaves(state.optimizer), jax.tree.leaves(whole.optimizer), strict=True)
        assert all(golden.relative_l2(ours, theirs) < 1e-4 for ours, theirs in moments if np.any(np.asarray(theirs)))


@pytest.mark.slow
def test_a_step_draws_anew_and_counts(converted):
    config, trained, frozen, batch = random_batch(converted, rows=2)
    trainer = Trainer(config, replace(FLOAT32, batch_size=2))
    state = initial_state(trained, trainer.optimizer, averages=True)
    losses = []
    for _ in range(2):
        state, metrics = trainer.step(state, frozen, batch, jax.random.key(3))
        losses.append(float(metrics.loss))
    assert int(state.step) == 2
    assert abs(losses[1] - losses[0]) > 1e-3  # other noise levels
