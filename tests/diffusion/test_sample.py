"""Solver and loop on upstream's two closed-form denoisers; one denoising call by hand."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.diffusion.branches import Branch
from jax_interp.diffusion.condition import FIXED_SIGMA, augmenter, frame_indicator
from jax_interp.diffusion.preconditioning import preconditioning
from jax_interp.diffusion.sample import CallInputs, call_coefficients, call_inputs, conclude, prepare, sample
from jax_interp.diffusion.schedule import sigmas
from jax_interp.diffusion.solver import advance
from tests import golden
from tests.tolerances import ELEMENTWISE_F32

DENOISERS = {
    "linear": lambda x, sigma: x * 0.25 / (sigma * sigma + 0.25),
    "curved": lambda x, sigma: 0.8 * jnp.tanh(x / (1 + sigma)) + x * 0.1 / (sigma * sigma + 0.25),
}


def run(name: str, num_steps: int):
    """Every (x, x0) of a run with the closed-form denoiser `name`, and the sample."""
    levels = sigmas(num_steps)
    trace = []

    def run_step(x, previous_x0, inputs: CallInputs):
        sigma = jnp.asarray(np.exp(4 * np.float64(inputs.preconditioning.c_noise)), jnp.float32)
        x0 = DENOISERS[name](x, sigma)
        trace.append((x, x0))
        return advance(x, x0, previous_x0, inputs.coefficients), x0

    calls = (call_inputs(s, c, [], "float32") for s, c in zip(levels, call_coefficients(levels), strict=True))
    return sample(run_step, jnp.asarray(golden.load("L3_sampler")["noise"]), levels, calls), trace


@pytest.mark.parametrize("num_steps", [1, 6, 35])
@pytest.mark.parametrize("name", DENOISERS)
def test_sampler_against_upstreams_in_float64(name, num_steps):
    out, _ = run(name, num_steps)
    assert golden.relative_l2(out, golden.load("L3_sampler")[f"float64.{name}_n{num_steps}"]) < ELEMENTWISE_F32


@pytest.mark.parametrize("name", DENOISERS)
def test_every_state_and_prediction_on_the_way(name):
    _, trace = run(name, 6)
    expected = golden.load("L3_sampler")
    for i, (x, x0) in enumerate(trace):
        assert golden.relative_l2(x, expected[f"float64.{name}_n6_x"][i]) < ELEMENTWISE_F32
        assert golden.relative_l2(x0, expected[f"float64.{name}_n6_x0"][i]) < ELEMENTWISE_F32


def test_a_first_order_solver_would_be_noticed():
    levels = sigmas(6)
    x = jnp.asarray(golden.load("L3_sampler")["noise"]) * np.float32(levels[0])
    for sigma, following in pairwise(levels):
        ratio = np.float32(following / sigma)
        x = ratio * x + (1 - ratio) * DENOISERS["curved"](x, jnp.float32(sigma))
    x0 = DENOISERS["curved"](x, jnp.float32(levels[-1]))
    assert golden.relative_l2(x0, golden.load("L3_sampler")["float64.curved_n6"]) > 1000 * ELEMENTWISE_F32


def test_one_call_by_hand(rng):
    """Two branches whose network returns 3 and 1: preconditioning, condition frames and guidance spelled out."""
    shape = (1, 3, 2, 2, 4)
    x, z, noise = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(3))
    indicator = jnp.asarray(frame_indicator(3))
    augment = augmenter("fixed", noise=noise[0], seed=0, pairs=range(1), num_calls=1, precision="float32")
    augmentations = [augment(0, branch) for branch in Branch]
    inputs = call_inputs(2.0, call_coefficients(sigmas(1))[0], augmentations, "float32")
    call = prepare(z, indicator, x, inputs)
    output = jnp.stack([jnp.full(shape[1:], 3.0), jnp.full(shape[1:], 1.0)])
    out = conclude(output, call.states, z, indicator, jnp.asarray(2.0), inputs)
    c_skip, c_out, c_in, c_noise = preconditioning(2.0, "float32")
    assert call.c_noise.tolist() == [c_noise] * 2
    # the middle frame: cond + 2 (cond - uncond) = 3 cond - 2 uncond
    expected = c_skip * x[:, 1] + c_out * (3 * 3 - 2 * 1)
    assert golden.relative_l2(out[:, 1], expected) < ELEMENTWISE_F32
    assert jnp.array_equal(out[:, 0], z[:, 0])
    assert jnp.array_equal(out[:, 2], z[:, 2])
    # what the network saw of a condition frame: c_in(sigma) cancels, c_in(s) remains
    known = (z[:, 0] + FIXED_SIGMA * noise[:, 0]) * preconditioning(FIXED_SIGMA, "float32").c_in
    assert golden.relative_l2(call.scaled[:1, 0], known) < ELEMENTWISE_F32
    assert golden.relative_l2(call.scaled[:1, 1], c_in * x[:, 1]) < ELEMENTWISE_F32
