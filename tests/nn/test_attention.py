"""The XLA path against float64 by hand, in blocks of every size."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.nn.attention import attention, blocked_attention
from tests.golden import relative_l2
from tests.tolerances import BLOCK_F32


def reference(q, k, v, scale, causal=False):
    scores = np.einsum("bqnk,bsnk->bnqs", q.astype(np.float64), k.astype(np.float64)) * scale
    if causal:
        scores[..., ~np.tril(np.ones(scores.shape[-2:], bool))] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bnqs,bsnk->bqnk", weights / weights.sum(-1, keepdims=True), v.astype(np.float64))


@pytest.fixture
def qkv(rng):
    return [rng.standard_normal((2, length, 3, 8)).astype(np.float32) for length in (13, 7, 7)]


@pytest.mark.parametrize("queries_at_once", [1, 4, 12, 13, 100])
def test_blocks_of_any_size_give_the_same(qkv, queries_at_once):
    score_bytes = 4 * 2 * 3 * 7 * queries_at_once
    out = blocked_attention(*map(jnp.asarray, qkv), scale=0.3, score_bytes=score_bytes)
    assert relative_l2(out, reference(*qkv, 0.3)) < BLOCK_F32


@pytest.mark.parametrize("queries_at_once", [2, 100])
def test_causal(rng, queries_at_once):
    q, k, v = (rng.standard_normal((1, 9, 2, 4)).astype(np.float32) for _ in range(3))
    out = blocked_attention(
        *map(jnp.asarray, (q, k, v)), scale=0.5, causal=True, score_bytes=4 * 2 * 9 * queries_at_once
    )
    assert relative_l2(out, reference(q, k, v, 0.5, causal=True)) < BLOCK_F32


def test_default_scale_and_dtype(qkv):
    q, k, v = (jnp.asarray(x).astype(jnp.bfloat16) for x in qkv)
    out = attention(q, k, v)
    assert out.dtype == jnp.bfloat16
    expected = reference(*(np.asarray(x, np.float32) for x in (q, k, v)), 8**-0.5)
    assert relative_l2(out, expected) < 2**-8  # one rounding to bfloat16


def test_a_wrong_scale_is_noticed(qkv):
    out = attention(*map(jnp.asarray, qkv), scale=0.31)
    assert relative_l2(out, reference(*qkv, 0.3)) > BLOCK_F32


@pytest.mark.gpu
def test_cudnn_agrees_with_xla(rng):
    q, k, v = (jnp.asarray(rng.standard_normal((1, 512, 4, 128)), jnp.bfloat16) for _ in range(3))
    assert relative_l2(attention(q, k, v), blocked_attention(q, k, v, scale=128**-0.5)) < 2**-7
