"""The kernel for Hopper: against float32 where there is one, and that it compiles for one anywhere."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.nn import attention as dispatch
from jax_interp.nn.attention import blocked_attention
from jax_interp.nn.kernels.flash_attention import BLOCK_KV, flash_attention
from tests.golden import relative_l2

SHAPES = [(1, 320, 400), (2, 128, 192), (1, 64, 512), (2, 136, 200), (1, 1, 1), (1, 1000, 8)]
"""(rows, queries, keys): whole and broken tiles of queries and blocks of keys, one block and several."""

SCALE = 128**-0.5
ROUNDING = 2**-7
"""What bfloat16 weights and one rounding of the result may cost; cuDNN's kernel is held to the same."""


def draw(rng, shape, heads=4):
    batch, num_queries, num_keys = shape
    lengths = (num_queries, num_keys, num_keys)
    return [jnp.asarray(rng.standard_normal((batch, n, heads, 128)), jnp.bfloat16) for n in lengths]


def oracle(q, k, v):
    with jax.default_matmul_precision("highest"):
        return blocked_attention(*(x.astype(jnp.float32) for x in (q, k, v)), scale=SCALE)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_equals_the_exact_result_but_for_rounding(rng, shape):
    q, k, v = draw(rng, shape)
    out = flash_attention(q, k, v, scale=SCALE)
    assert out.dtype == jnp.bfloat16
    assert relative_l2(out, oracle(q, k, v)) < ROUNDING


@pytest.mark.gpu
@pytest.mark.parametrize("heads", [1, 3, 4])
def test_a_head_gives_the_same_bits_whatever_shares_its_program(rng, heads):
    """Five blocks of queries a head: the last one is alone, or with the first of the next head."""
    q, k, v = draw(rng, (1, 320, 400), heads)
    out = flash_attention(q, k, v, scale=SCALE)
    assert relative_l2(out, oracle(q, k, v)) < ROUNDING
    for head in range(heads):
        one = (x[:, :, head : head + 1] for x in (q, k, v))
        np.testing.assert_array_equal(out[:, :, head : head + 1], flash_attention(*one, scale=SCALE))


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[2] > 1], ids=str)
@pytest.mark.parametrize("which", ["first", "last"])
def test_one_changed_key_is_noticed(rng, shape, which):
    q, k, v = draw(rng, shape)
    other = k.at[:, 0 if which == "first" else -1].multiply(16)
    assert relative_l2(flash_attention(q, other, v, scale=SCALE), oracle(q, other, v)) < ROUNDING
    assert relative_l2(flash_attention(q, other, v, scale=SCALE), oracle(q, k, v)) > ROUNDING


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(1, 320, 400), (2, 128, 192), (1, 1000, 8)], ids=str)
def test_scores_far_from_zero(rng, shape):
    """The running maximum moves on from block to block, and weights of earlier blocks shrink to nothing."""
    q, k, v = draw(rng, shape)
    ramp = jnp.linspace(0.1, 20, k.shape[1], dtype=jnp.bfloat16)[None, :, None, None]
    q, k = jnp.abs(q), jnp.abs(k) * ramp
    assert relative_l2(flash_attention(q, k, v, scale=SCALE), oracle(q, k, v)) < ROUNDING


def lowered(function, shape, heads=4):
    batch, num_queries, num_keys = shape
    q, k = (jax.ShapeDtypeStruct((batch, n, heads, 128), jnp.bfloat16) for n in (num_queries, num_keys))
    traced = jax.jit(function).trace(q, k, k)
    assert traced.out_info.shape == q.shape
    return traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_compiles_for_cuda(shape, heads):
    text = lowered(partial(flash_attention, scale=SCALE), shape, heads)
    assert "mosaic_gpu" in text
    assert "dot_general" not in text


def test_self_attention_compiles_to_the_kernel_and_short_contexts_do_not(monkeypatch):
    monkeypatch.setattr(dispatch, "flash_available", lambda: True)
    assert "mosaic_gpu" in lowered(dispatch.attention, (1, 1024, 1024))
    assert "mosaic_gpu" not in lowered(dispatch.attention, (1, 1024, 512))


def test_shapes_cover_broken_blocks_and_whole_ones():
    rests = {num_keys % BLOCK_KV == 0 for _, _, num_keys in SHAPES}
    assert rests == {True, False}
    assert any(num_keys < BLOCK_KV for _, _, num_keys in SHAPES)
    assert any(np.ceil(num_keys / BLOCK_KV) > 2 for _, _, num_keys in SHAPES)
