"""Attention in int8: it compiles for Hopper, every query has its program, and the scales undo the rounding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.attention.int8_scores import BFLOAT16, INT8, SCALE, SHAPES, gaussian, quantized, with_large_channels
from benchmarks.attention.plan import Variant, plan
from benchmarks.attention.variants import attend, exp2_by_polynomial
from jax_interp.nn.kernels.occupancy import BLOCK_Q

INT8_ERROR = 2**-5
"""What rounding to int8 may cost a score, as a part of the largest one; the large channels make the steps wide."""


@pytest.mark.parametrize("name", [*BFLOAT16, *INT8])
@pytest.mark.parametrize(
    "shape", [(192, 400, 2), *(pytest.param(x, marks=pytest.mark.slow) for x in ((136, 200, 3), SHAPES[-1]))], ids=str
)
def test_kernel_compiles_for_cuda(name, shape):
    variant = {**BFLOAT16, **INT8}[name]
    inputs = jax.eval_shape(partial(gaussian, *shape))
    scales = None
    if name in INT8:
        *whole, scales = jax.eval_shape(partial(quantized, block_kv=variant.block_kv), *inputs[:2])
        inputs = *whole, inputs[2]
    traced = attend.trace(*inputs, scales, scale=SCALE, variant=variant)
    assert traced.out_info.shape == inputs[0].shape
    assert traced.out_info.dtype == jnp.bfloat16
    assert "mosaic_gpu" in traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("schedule", ["tiles", "halves", "split"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_query_has_one_program(schedule, shape):
    num_queries, _, heads = shape
    shares = plan(Variant(schedule=schedule), num_queries, heads)
    assert shares.pairs + shares.programs == heads * shares.halves
    assert shares.halves * BLOCK_Q >= num_queries


@pytest.mark.parametrize("make", [gaussian, with_large_channels])
def test_scales_undo_the_rounding(make):
    q, k, _ = (x.astype(jnp.float32) for x in make(136, 200, 2))
    q8, k8, (q_scale, k_scale) = quantized(q, k, block_kv=64)
    scores = jnp.einsum("bqnk,bsnk->bnqs", q8.astype(jnp.float32), k8.astype(jnp.float32))
    scores *= q_scale[:, :, :136, None] * jnp.repeat(k_scale, 64, axis=2)[:, :, None, :200]
    exact = jnp.einsum("bqnk,bsnk->bnqs", q, k - k.mean(axis=1, keepdims=True)) * SCALE * np.log2(np.e)
    assert jnp.abs(scores - exact).max() < INT8_ERROR * jnp.abs(exact).max()


def test_polynomial_is_right_to_1e_4():
    x = jnp.linspace(-125, 0, 10000, dtype=jnp.float32)
    np.testing.assert_allclose(exp2_by_polynomial(x), np.exp2(x), rtol=1e-4)
