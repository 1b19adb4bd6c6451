"""Initial noise, and the counting of draws for the condition noise."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.config import Precision
from jax_interp.diffusion.branches import Branch
from jax_interp.diffusion.condition import augmenter, frame_indicator, initial_noise, seeded_source
from jax_interp.errors import UsageError

SHAPE = (3, 2, 2, 4)


def test_initial_noise_is_upstreams():
    expected = np.random.RandomState(11).standard_normal((1, 4, 3, 2, 2)).astype(np.float32)[0]
    assert np.array_equal(initial_noise(11, SHAPE), np.moveaxis(expected, 0, -1))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_the_generator_cannot_take(seed):
    with pytest.raises(UsageError, match="--seed"):
        initial_noise(seed, SHAPE)


def test_first_and_last_frame_are_known():
    assert frame_indicator(5).ravel().tolist() == [1, 0, 0, 0, 1]


def recording_augmenter(pairs, num_calls, precision: Precision = "float32"):
    asked = []

    def source(call):
        asked.append(call)
        return 0.1 + call, np.full(SHAPE, call, np.float32)

    noise = jnp.zeros(SHAPE)
    return augmenter(source, noise=noise, seed=0, pairs=pairs, num_calls=num_calls, precision=precision), asked


def test_calls_are_counted_as_upstream_counts_them():
    augment, asked = recording_augmenter(range(2), num_calls=7)
    augment(0, Branch.CONDITIONAL)
    augment(0, Branch.UNCONDITIONAL)
    augment(6, Branch.UNCONDITIONAL)
    # two calls a step, conditional first; the second pair starts after the 14 calls of the first
    assert asked == [0, 14, 1, 15, 13, 27]


def test_a_later_batch_goes_on_counting():
    augment, asked = recording_augmenter(range(3, 4), num_calls=2)
    augment(1, Branch.CONDITIONAL)
    assert asked == [3 * 4 + 2]


def test_drawn_noise_has_the_networks_dtype_and_fixed_noise_is_float32():
    drawn, _ = recording_augmenter(range(1), 1, "bfloat16")
    fixed = augmenter("fixed", noise=jnp.zeros(SHAPE), seed=0, pairs=range(1), num_calls=1, precision="bfloat16")
    assert drawn(0, Branch.CONDITIONAL).noise.dtype == jnp.bfloat16
    assert fixed(0, Branch.CONDITIONAL).noise.dtype == jnp.float32


def test_noise_of_a_wrong_shape_is_refused():
    augment = augmenter(
        lambda call: (0.1, np.zeros((1, 2))), noise=jnp.zeros(SHAPE), seed=0, pairs=range(1), num_calls=1,
        precision="float32",
    )  # fmt: skip
    with pytest.raises(UsageError, match="expected \\(3, 2, 2, 4\\)"):
        augment(0, Branch.CONDITIONAL)


def test_random_draws_depend_on_seed_and_call_alone():
    (sigma, noise), (other_sigma, other) = seeded_source(1, SHAPE)(5), seeded_source(1, SHAPE)(6)
    again_sigma, again = seeded_source(1, SHAPE)(5)
    assert (sigma, noise.tolist()) == (again_sigma, again.tolist())
    assert sigma != other_sigma
    assert not np.array_equal(noise, other)


def test_random_sigma_is_log_normal():
    logs = np.log([seeded_source(0, (1,))(call)[0] for call in range(4000)])
    assert abs(logs.mean() + 3) < 0.1
    assert abs(logs.std() - 2) < 0.1
