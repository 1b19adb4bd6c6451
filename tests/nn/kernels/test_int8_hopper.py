"""The int8 kernel for Hopper: against XLA's product where there is one, and that it compiles for one anywhere."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.nn import int8_matmul as dispatch
from jax_interp.nn.int8_matmul import MIN_ROWS, fits_kernel, int8_matmul, xla_int8_matmul
from jax_interp.nn.kernels.int8_hopper import ORDERS, SLOTS, TILE_K, TILE_M, TILE_N, int8_matmul_hopper

SHAPES = [(TILE_M, TILE_N, TILE_K), (200, 320, 256), (136, 256, 128), (1000, 832, 1152), (8 * TILE_M, 3 * TILE_N, 512)]
"""(rows, columns, inner): whole and broken tiles, fewer steps than slots and more, one tile and several."""


def draw(rng, shape):
    rows, columns, inner = shape
    x, weight = (rng.integers(-127, 128, (n, inner), np.int8) for n in (rows, columns))
    return x, rng.random(rows, np.float32), weight, rng.random(columns, np.float32)


@pytest.mark.gpu
@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_gives_the_bits_of_xla(rng, shape, order):
    arguments = draw(rng, shape)
    (ours,), (xla,) = (
        product(*arguments, jnp.bfloat16) for product in (partial(int8_matmul_hopper, order=order), xla_int8_matmul)
    )
    assert ours.dtype == jnp.bfloat16
    assert (ours == xla).all()


@pytest.mark.gpu
def test_parts_are_columns_of_the_whole(rng):
    arguments = draw(rng, (200, 3 * TILE_N, 256))
    (whole,) = int8_matmul_hopper(*arguments, jnp.bfloat16)
    parts = int8_matmul_hopper(*arguments, jnp.bfloat16, parts=3)
    assert (jnp.concatenate(parts, axis=1) == whole).all()


@pytest.mark.gpu
def test_the_gelu_is_that_of_xla_but_for_one_rounding(rng):
    x, x_scale, weight, weight_scale = draw(rng, (200, 320, 256))
    arguments = x, x_scale / 1e4, weight, weight_scale, jnp.bfloat16
    (ours,), (xla,) = (product(*arguments, gelu=True) for product in (int8_matmul_hopper, xla_int8_matmul))
    ours, xla = (np.asarray(values, np.float32) for values in (ours, xla))
    assert np.abs(xla).max() > 1
    assert np.allclose(ours, xla, rtol=2**-7, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "options"),
    [*((shape, {}) for shape in SHAPES), ((200, 768, 256), {"parts": 3}), (SHAPES[1], {"gelu": True})],
)
def test_the_kernel_compiles_for_cuda(shape, options):
    rows, columns, inner = shape
    x, weight = (jax.ShapeDtypeStruct((n, inner), jnp.int8) for n in (rows, columns))
    x_scale, weight_scale = (jax.ShapeDtypeStruct((n,), jnp.float32) for n in (rows, columns))
    product = jax.jit(partial(int8_matmul_hopper, dtype=jnp.bfloat16, **options))
    traced = product.trace(x, x_scale, weight, weight_scale)
    parts = options.get("parts", 1)
    assert [part.shape for part in traced.out_info] == [(rows, columns // parts)] * parts
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "mosaic_gpu" in text
    assert "dot_general" not in text


def test_shapes_cover_broken_tiles_and_whole_ones():
    assert {rows % TILE_M == 0 for rows, _, _ in SHAPES} == {columns % TILE_N == 0 for _, columns, _ in SHAPES}
    assert {inner // TILE_K > SLOTS for _, _, inner in SHAPES} == {True, False}


@pytest.mark.parametrize(
    ("shape", "dtype", "parts", "fits"),
    [
        ((10560, 4096, 4096), jnp.bfloat16, 1, True),
        ((10560, 12288, 4096), jnp.bfloat16, 3, True),
        ((10560, 12288 // 8, 4096), jnp.bfloat16, 3, True),
        ((10560, 576, 4096), jnp.bfloat16, 3, False),
        ((MIN_ROWS - 8, 4096, 4096), jnp.bfloat16, 1, False),
        ((10561, 4096, 4096), jnp.bfloat16, 1, False),
        ((10560, 4096, 4032), jnp.bfloat16, 1, False),
        ((10560, 4000, 4096), jnp.bfloat16, 1, False),
        ((10560, 192, 4096), jnp.bfloat16, 1, False),
        ((10560, 4096, 4096), jnp.float32, 1, False),
    ],
)
def test_what_our_kernel_takes(shape, dtype, parts, fits):
    x, weight = (jax.ShapeDtypeStruct((n, shape[2]), jnp.int8) for n in shape[:2])
    assert fits_kernel(x, weight, dtype, parts) is fits


def test_our_kernel_serves_where_it_runs(rng, monkeypatch):
    seen = []

    def kernel(x, x_scale, weight, weight_scale, dtype, **options):
        seen.append(options)
        return (jnp.zeros((len(x), len(weight)), dtype),)

    monkeypatch.setattr("jax_interp.nn.kernels.int8_hopper.int8_matmul_hopper", kernel)
    monkeypatch.setattr(dispatch, "kernel_available", lambda: True)
    arguments = draw(rng, (200, 320, 256))
    int8_matmul(*arguments, jnp.bfloat16, gelu=True)
    assert seen == [{"parts": 1, "gelu": True, "order": ORDERS[0]}]
    (wide,) = int8_matmul(*arguments, jnp.float32)
    assert len(seen) == 1
    assert (wide == xla_int8_matmul(*arguments, jnp.float32)[0]).all()


def test_on_a_cpu_no_kernel_is_asked_for(caplog):
    dispatch.kernel_available.cache_clear()
    assert dispatch.kernel_available() is False
    assert not caplog.records
