"""Alone, nothing is exchanged."""

import jax.numpy as jnp
import numpy as np

from jax_interp.nn.attention import attention
from jax_interp.nn.exchange import NONE, Exchange


def test_alone_attention_is_attention_and_a_sum_is_its_one_term(rng):
    q, k, v = (jnp.asarray(rng.standard_normal((1, 5, 2, 8)), jnp.float32) for _ in range(3))
    np.testing.assert_array_equal(NONE.attend(q, k, v), attention(q, k, v))
    assert NONE.add(q) is q


def test_one_of_both_may_be_exchanged():
    exchange = Exchange(add=lambda x: 2 * x)
    assert exchange.attend is attention
    assert exchange.add(jnp.ones(1)).tolist() == [2]
