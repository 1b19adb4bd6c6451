"""AdamW and clipping against three recorded steps."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_interp.train.optimization.ema import decay, exponent, update_average
from jax_interp.train.optimization.optimizer import make_optimizer, zero_non_finite
from tests import golden
from tests.tolerances import MOVED_F32, TRAINING_F32
from tests.train.golden_steps import UPSTREAM_OPTIMIZER, load

NAMES = [name.removeprefix("p0.") for name in load("T2_optimizer_ema") if name.startswith("p0.")]


def recorded_state(prefix):
    return {name: jnp.asarray(load("T2_optimizer_ema")[f"{prefix}.{name}"]) for name in NAMES}


def steps_of(settings):
    """Parameters and average after each of three steps on the recorded (already clipped) gradients."""
    optimizer = make_optimizer(settings, 100)
    params = average = recorded_state("p0")
    state, gradients = optimizer.init(params), recorded_state("grad")
    for step, factor in enumerate(load("T2_optimizer_ema")["grad_factors"]):
        scaled = {name: jnp.float32(factor) * gradient for name, gradient in gradients.items()}
        updates, state = optimizer.update(scaled, state, params)
        params = optax.apply_updates(params, updates)
        average = update_average(average, params, jnp.int32(step), exponent(settings.ema_rate))
        yield params, average


def worst(ours, prefix):
    return max(golden.relative_l2(ours[name], values) for name, values in recorded_state(prefix).items())


def moved(ours, prefix):
    """The error relative to what the steps have changed."""
    start, theirs = recorded_state("p0"), recorded_state(prefix)
    return max(golden.relative_l2(ours[name] - start[name], theirs[name] - start[name]) for name in NAMES)


def test_three_steps_and_averages_are_upstreams():
    # The recorded gradients are a part of all, so that clipping them by their own norm would not be upstream's.
    settings = replace(UPSTREAM_OPTIMIZER, clip_norm=1e9)
    for number, (params, average) in enumerate(steps_of(settings), start=1):
        assert worst(params, f"p{number}") < TRAINING_F32
        assert worst(average, f"ema{number}") < TRAINING_F32
        assert moved(params, f"p{number}") < MOVED_F32


@pytest.mark.parametrize(
    "change",
    [{"betas": (0.5, 0.9)}, {"weight_decay": 0.0}, {"learning_rate": 5.2e-5}, {"epsilon": 1e-5}, {"ema_rate": 0.15}],
    ids=str,
)
def test_other_settings_are_noticed(change):
    settings = replace(UPSTREAM_OPTIMIZER, clip_norm=1e9, **change)
    *_, (params, average) = steps_of(settings)
    assert max(moved(params, "p3"), moved(average, "ema3")) > MOVED_F32


def test_what_is_not_a_number_becomes_zero():
    gradients = {"a": jnp.asarray([1.0, jnp.nan, jnp.inf, -jnp.inf, -2.0])}
    cleaned: Any
    cleaned, _ = zero_non_finite().update(gradients, zero_non_finite().init(gradients))
    assert cleaned["a"].tolist() == [1, 0, 0, 0, -2]


def test_gradients_are_clipped_together():
    """Steps do not depend on the gradient's size in Adam, its moments do."""
    settings = replace(UPSTREAM_OPTIMIZER, clip_norm=1.0)
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    optimizer = make_optimizer(settings, 100)
    gradients = {"a": jnp.asarray([3.0, jnp.nan]), "b": jnp.asarray([4.0])}
    state: Any = optimizer.update(gradients, optimizer.init(params), params)[1]
    [moments] = [part for part in state[2] if hasattr(part, "mu")]
    assert np.asarray(moments.mu["a"]) == pytest.approx([0.1 * 0.6, 0])
    assert np.asarray(moments.mu["b"]) == pytest.approx([0.1 * 0.8])


@pytest.mark.parametrize("rate", [0.1, 0.05, 0.025])
def test_exponents_and_decays_of_averages(rate):
    recorded = load("T2_schedules")
    gamma = exponent(rate)
    assert gamma == pytest.approx(recorded[f"exponent_{rate}"], rel=1e-9)
    ours = [float(decay(jnp.int32(step), gamma)) for step in recorded["iterations"]]
    assert golden.relative_l2(ours, recorded[f"beta_{rate}"]) < TRAINING_F32
    assert golden.relative_l2([float(decay(jnp.int32(step), gamma * 1.01)) for step in recorded["iterations"]],
                              recorded[f"beta_{rate}"]) > TRAINING_F32  # fmt: skip
