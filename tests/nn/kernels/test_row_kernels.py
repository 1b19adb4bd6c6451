"""The kernels between products in 8 bits: against plain functions on a GPU, and that they compile for one anywhere."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental import pallas as pl
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from jax_interp.nn import quantized_ops
from jax_interp.nn.kernels import row_kernels
from jax_interp.nn.kernels.row_kernels import (
    add_norm_modulate_quantize,
    norm_modulate_quantize,
    norm_rotate,
    quantize_rows,
)
from jax_interp.nn.norms import RMSNorm
from jax_interp.nn.quantization import SMALLEST_RANGE, quantize_tokens
from jax_interp.nn.quantized_ops import modulate, plain_heads

pytestmark = pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
WIDTHS = [4096, 5120, 96]
"""That of the 7B network, that of the 14B, which is no power of two, and a small one."""
HEADS = [4, 40, 10]
"""A power of two, as the 7B network has; those of the 14B, which are none; and a quarter of these."""


def draw(rng, *shape):
    return jnp.asarray(rng.standard_normal(shape), jnp.bfloat16)


@pytest.fixture
def hopper():
    """A description of the GPU that is not there, which newer versions of JAX want."""
    device = AbstractDevice("NVIDIA H100 80GB HBM3", 132, "gpu")
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=device)):
        yield


def drawn_factors(rng, width):
    return jnp.asarray(np.exp2(rng.integers(-6, 7, width)), jnp.bfloat16)


def assert_quantized(values, scale, expected):
    """The same scales, and integers that differ by at most one and hardly anywhere: sums have another order."""
    expected_values, expected_scale = (leaf.reshape(leaf.shape[0] * leaf.shape[1], -1) for leaf in expected)
    assert np.allclose(scale, expected_scale[:, 0], rtol=1e-5)
    difference = np.abs(np.asarray(values, np.int32) - np.asarray(expected_values, np.int32))
    assert difference.max() <= 1
    assert (difference != 0).mean() < 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("width", WIDTHS)
def test_quantising(rng, width):
    x = draw(rng, 1, 24, width)
    expected = quantize_tokens(x)
    values, scale = quantize_rows(x[0])
    assert_quantized(values, scale, (expected.values, expected.scale))


def assert_multiplied(rng, width, kernels, check):
    """`check` what `kernels` make of rows with factors, against the plain functions."""
    quantize, norm, add = kernels
    x, factors = draw(rng, 2, 12, width), drawn_factors(rng, width)
    shift, scale = draw(rng, 2, 1, width), draw(rng, 2, 1, width)
    rows, vectors = x.reshape(24, width), (shift[:, 0], scale[:, 0], factors)
    expected = quantize_tokens(x, factors=factors)
    check(*quantize(rows, factors), (expected.values, expected.scale))
    wide = modulate(*(leaf.astype(jnp.float32) for leaf in (x, shift, scale)))
    expected = quantize_tokens(wide, factors=factors)
    check(*norm(rows, *vectors), (expected.values, expected.scale))
    for gate in (None, draw(rng, 2, width)):
        _, *ours = add(rows, jnp.zeros_like(rows), gate, *vectors)
        check(*ours, (expected.values, expected.scale))


KERNELS = quantize_rows, norm_modulate_quantize, add_norm_modulate_quantize


@pytest.mark.gpu
@pytest.mark.parametrize("width", WIDTHS)
def test_factors(rng, width):
    assert_multiplied(rng, width, KERNELS, assert_quantized)


def assert_within_a_step(values, scale, expected):
    """XLA cancels the number by which the kernels round, so that interpreted ones cut fractions off."""
    expected_values, expected_scale = (leaf.reshape(leaf.shape[0] * leaf.shape[1], -1) for leaf in expected)
    assert np.allclose(scale, expected_scale[:, 0], rtol=1e-5)
    assert np.abs(np.asarray(values, np.int32) - np.asarray(expected_values, np.int32)).max() <= 1


@pytest.mark.slow
def test_factors_where_kernels_are_interpreted(rng, monkeypatch):
    """What a GPU would compute, worked out by JAX on any device; another channel's factor is noticed."""
    monkeypatch.setattr(row_kernels.pl, "pallas_call", partial(pl.pallas_call, interpret=True))
    kernels = [inspect.unwrap(kernel) for kernel in KERNELS]
    assert_multiplied(rng, 320, kernels, assert_within_a_step)
    right = row_kernels._channels
    monkeypatch.setattr(row_kernels, "_channels", lambda factors: right(jnp.roll(factors, 1)))
    with pytest.raises(AssertionError):
        assert_multiplied(rng, 320, kernels, assert_within_a_step)


@pytest.mark.gpu
def test_rows_of_zeros_and_of_what_is_not_finite(rng):
    x = draw(rng, 4, 256).at[0].set(0).at[1, 7].set(jnp.nan).at[2, 9].set(jnp.inf)
    values, scale = quantize_rows(x)
    assert not values[0].any()
    assert 0 < scale[0] <= SMALLEST_RANGE
    assert not np.isfinite(np.asarray(scale[1:3])).any()
    assert np.isfinite(scale[3])


@pytest.mark.gpu
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("gated", [True, False])
def test_sum_norm_and_modulation(rng, width, gated):
    x, added = draw(rng, 2, 12, width), draw(rng, *((2, 12) if gated else (1, 12)), width)
    gate, shift, scale = (draw(rng, 2, 1, width) for _ in range(3))
    total = x + (gate * added if gated else added)
    wide = modulate(*(leaf.astype(jnp.float32) for leaf in (total, shift, scale)))
    expected = quantize_tokens(wide)
    rows, vectors = x.reshape(24, width), (shift[:, 0], scale[:, 0])
    out, values, steps = add_norm_modulate_quantize(
        rows, added.reshape(-1, width), gate[:, 0] if gated else None, *vectors
    )
    assert (out == total.reshape(24, width)).mean() > 0.999  # a multiplication and an addition may round once
    assert_quantized(values, steps, (expected.values, expected.scale))
    values, steps = norm_modulate_quantize(total.reshape(24, width), *vectors)
    assert_quantized(values, steps, (expected.values, expected.scale))


@pytest.mark.gpu
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("rotated", [True, False])
def test_heads(rng, rotated, heads):
    assert_heads(rng, rotated, heads)


@pytest.mark.parametrize("rotated", [True, False])
def test_heads_where_kernels_are_interpreted(rng, monkeypatch, rotated):
    monkeypatch.setattr(row_kernels.pl, "pallas_call", partial(pl.pallas_call, interpret=True))
    assert_heads(rng, rotated, 10, inspect.unwrap(norm_rotate))


def assert_heads(rng, rotated, heads, norm_rotate=norm_rotate):
    """The kernel of heads gives what the plain functions give."""
    x, norm = draw(rng, 2, 12, heads, 128), RMSNorm(128, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    norm.scale[...] = draw(rng, 128)
    rotation = jnp.asarray(rng.standard_normal((2, 12, 64)), jnp.float32) if rotated else None
    ours = norm_rotate(x.reshape(24, heads, 128), norm.scale[...], rotation, epsilon=norm.epsilon)
    expected = plain_heads(x, norm, rotation).reshape(24, heads, 128)
    assert (ours == expected).mean() > 0.999
    assert np.allclose(ours.astype(jnp.float32), expected.astype(jnp.float32), rtol=2**-6, atol=2**-6)


@pytest.mark.gpu
@pytest.mark.parametrize("with_factors", [False, True])
def test_the_kernels_serve_on_hopper(with_factors):
    quantized_ops.row_kernels_available.cache_clear()
    assert quantized_ops.row_kernels_available(with_factors=with_factors)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.usefixtures("hopper")
def test_the_kernels_compile_for_cuda(width):
    x, vector = (jax.ShapeDtypeStruct((n, width), jnp.bfloat16) for n in (24, 2))
    once, factors = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((12, width), (width,)))
    for kernel, *arguments in (
        (quantize_rows, x),
        (quantize_rows, x, factors),
        (norm_modulate_quantize, x, vector, vector, factors),
        (add_norm_modulate_quantize, x, x, vector, vector, vector, factors),
        (norm_modulate_quantize, x, vector, vector),
        (add_norm_modulate_quantize, x, x, vector, vector, vector),
        (lambda x, added, *rest: add_norm_modulate_quantize(x, added, None, *rest), x, once, vector, vector),
    ):
        traced = jax.jit(kernel).trace(*arguments)
        values, scale = traced.out_info[-2:]
        assert (values.shape, values.dtype, scale.shape) == ((24, width), jnp.int8, (24,))
        assert "triton" in traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("rotation", [(2, 12, 64), None])
@pytest.mark.usefixtures("hopper")
def test_the_kernel_of_heads_compiles_for_cuda(rotation, heads):
    x, gain = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((24, heads, 128), (128,)))
    angles = rotation and jax.ShapeDtypeStruct(rotation, jnp.float32)
    kernel = jax.jit(lambda x, gain, angles: norm_rotate(x, gain, angles, epsilon=1e-6))
    traced = kernel.trace(x, gain, angles)
    assert traced.out_info.shape == x.shape
    assert "triton" in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_on_a_cpu_no_kernel_is_asked_for(caplog):
    quantized_ops.row_kernels_available.cache_clear()
    assert quantized_ops.row_kernels_available() is False
    assert not caplog.records
