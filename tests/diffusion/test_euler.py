"""The sampler of Video2World against upstream's, bit by bit where the golden data have every array."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.diffusion.condition import initial_noise
from jax_interp.diffusion.euler import (
    compose,
    euler_inputs,
    euler_sigmas,
    euler_step,
    first_frames_indicator,
    guided_output,
    initial_state,
    network_input,
)
from jax_interp.errors import UsageError
from tests import golden
from tests.golden import VIDEO2WORLD
from tests.tolerances import ELEMENTWISE_F32

PRECISIONS = ("float32", "bfloat16")


def recorded(name):
    return golden.load(name, VIDEO2WORLD)


def latents(array, dtype="float32"):
    """An upstream array [1, C, T, H, W] or [C, T, H, W] as latents of one row."""
    array = array if array.ndim == 5 else array[None]
    return jnp.asarray(golden.channels_last(array)).astype(dtype)


@pytest.mark.parametrize("num_steps", [1, 6, 35])
def test_levels_and_what_the_network_is_told(num_steps):
    expected = recorded("L3_sampler")
    levels = euler_sigmas(num_steps)
    assert levels.dtype == np.float32
    assert golden.relative_l2(levels, expected[f"sigma_{num_steps}"]) < 1e-7
    assert np.array_equal(levels, expected[f"sigma_{num_steps}"]) or num_steps == 35
    for precision in PRECISIONS:
        told = [inputs.c_noise for inputs in euler_inputs(levels, precision)]
        assert golden.relative_l2(told, expected[f"timestep_{num_steps}"]) < 1e-7


def test_no_step_is_refused():
    with pytest.raises(UsageError, match="--num-steps is 0"):
        euler_sigmas(0)


@pytest.mark.parametrize("num_steps", [1, 6, 35])
def test_a_closed_form_network_is_sampled_as_upstream_does(num_steps):
    """Nothing is known and there is one branch; the network is that of the golden data."""
    expected = recorded("L3_sampler")[f"x_{num_steps}"]
    states = expected if num_steps != 35 else [None] * 35 + [expected]
    noise = jnp.asarray(np.random.RandomState(5).standard_normal((2, 3, 4, 5)), jnp.float32)[None]
    x = initial_state(noise, jnp.float32)
    for inputs, state in zip(euler_inputs(euler_sigmas(num_steps), "float32"), states, strict=False):
        assert state is None or golden.relative_l2(x[0], state) < ELEMENTWISE_F32
        output = jnp.sin(3 * network_input(x, inputs)) - 0.2 * jnp.asarray(inputs.c_noise)
        x = euler_step(x, output, inputs)
    assert golden.relative_l2(x[0], states[-1]) < 2 * ELEMENTWISE_F32


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_array_of_a_run_is_upstreams_to_the_bit(precision):
    """Replayed from the network's outputs alone, operation by operation: compiled together, some would fuse."""
    run = recorded(f"L5_{precision}_A_g7_n6")
    condition = latents(run["condition_latent"], precision)
    indicator = jnp.asarray(first_frames_indicator(3, 2))
    noise = jnp.asarray(initial_noise(1, (3, 6, 8, 16)))[None]
    guidance = jnp.asarray(7.0, jnp.float32)
    x = initial_state(latents(run["initial_noise"]), precision)
    for i, inputs in enumerate(euler_inputs(run["sigma"], precision)):
        assert np.array_equal(x.astype("float32"), latents(run["x"][i]))
        assert bool(inputs.keeps_known) == bool(run["condition_frames_kept"][i])
        state = compose(condition, noise, indicator, x, inputs)
        assert np.array_equal(network_input(state, inputs).astype("float32"), latents(run["net_input"][i]))
        outputs = [latents(run[name][i], precision) for name in ("net_cond", "net_uncond")]
        output = guided_output(outputs, guidance, state, condition, indicator, inputs)
        assert np.array_equal(output.astype("float32"), latents(run["output"][i]))
        x = euler_step(state, output, inputs)
    assert np.array_equal(x.astype("float32"), latents(run["sample"]))


@pytest.mark.parametrize(("num_steps", "let_go"), [(1, 0), (6, 1), (35, 2)])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_known_frames_are_let_go_at_the_last_levels(precision, num_steps, let_go):
    kept = [bool(inputs.keeps_known) for inputs in euler_inputs(euler_sigmas(num_steps), precision)]
    assert kept == [True] * (num_steps - let_go) + [False] * let_go


def test_one_branch_is_the_output_itself(rng):
    [inputs] = euler_inputs(euler_sigmas(1), "float32")
    state, output = (jnp.asarray(rng.standard_normal((1, 2, 2, 2, 4)), jnp.float32) for _ in range(2))
    nothing = jnp.asarray(first_frames_indicator(2, 0))
    assert jnp.array_equal(
        guided_output([output], jnp.asarray(0.0), state, jnp.zeros_like(state), nothing, inputs), output
    )


def test_the_first_frames_are_known():
    assert first_frames_indicator(4, 2).reshape(-1).tolist() == [1, 1, 0, 0]
