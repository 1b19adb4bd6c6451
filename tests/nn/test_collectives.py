"""Alone, nothing is exchanged."""

import jax.numpy as jnp
import numpy as np

from jax_interp.nn.attention import attention
from jax_interp.nn.collectives import ONE_DEVICE, Collectives


def test_alone_attention_is_attention_and_a_sum_is_its_one_term(rng):
    q, k, v = (jnp.asarray(rng.standard_normal((1, 5, 2, 8)), jnp.float32) for _ in range(3))
    np.testing.assert_array_equal(ONE_DEVICE.attend(q, k, v), attention(q, k, v))
    assert ONE_DEVICE.all_reduce(q) is q


def test_one_of_both_may_be_exchanged():
    collectives = Collectives(all_reduce=lambda x: 2 * x)
    assert collectives.attend is attention
    assert collectives.all_reduce(jnp.ones(1)).tolist() == [2]
