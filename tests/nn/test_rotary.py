"""Angle tables against upstream's of the real size, and the rotation by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.config import DIT_7B
from jax_interp.nn.rotary import apply_rotary, make_rotation, rotary_angles, split_head_width
from tests import golden
from tests.tolerances import ELEMENTWISE_F32


def tables(fps, precision):
    """Angles of the 7B network at 704x1280 along each axis."""
    ratio = DIT_7B.rotary_ratio
    angles = rotary_angles((3, 44, 80), DIT_7B.head_width, fps=fps, ratio=ratio, precision=precision)
    grid = angles.reshape(3, 44, 80, 64)
    return {f"fps{fps}.t": grid[:, 0, 0, :22], "h": grid[0, :, 0, 22:43], "w": grid[0, 0, :, 43:]}


@pytest.mark.parametrize("fps", [12, 24, 30])
def test_bfloat16_tables_equal_upstreams(fps):
    upstream = golden.load("L1_rope_7b")
    for axis, table in tables(fps, "bfloat16").items():
        np.testing.assert_array_equal(table, upstream[f"bfloat16.{axis}"])


@pytest.mark.parametrize("fps", [12, 24, 30])
def test_float32_tables_equal_upstreams(fps):
    upstream = golden.load("L1_rope_7b")
    for axis, table in tables(fps, "float32").items():
        assert golden.relative_l2(table, upstream[f"float32.{axis}"]) < ELEMENTWISE_F32


def test_split_of_the_real_head():
    assert split_head_width(128) == (44, 42, 42)


def test_rotation_pairs_component_i_with_i_plus_half():
    x = jnp.asarray([[[[1.0, 0.0, 0.0, 2.0]]]])
    angles = jnp.asarray([[np.pi / 2, np.pi]], jnp.float32)
    # (1, 0) turned by 90 degrees is (0, 1); (0, 2) turned by 180 degrees is (0, -2)
    np.testing.assert_allclose(apply_rotary(x, make_rotation(angles))[0, 0, 0], [0, 0, 1, -2], atol=1e-6)


def test_rotation_is_cosine_and_sine(rng):
    angles = rng.uniform(-40, 40, (6, 5)).astype(np.float32)
    rotation = make_rotation(jnp.asarray(angles))
    assert (rotation.shape, rotation.dtype) == ((2, 6, 5), jnp.float32)
    # near zero the float32 angle, not the function, decides the last bits: absolute
    np.testing.assert_allclose(rotation[0], np.cos(angles.astype(np.float64)), atol=ELEMENTWISE_F32, rtol=0)
    np.testing.assert_allclose(rotation[1], np.sin(angles.astype(np.float64)), atol=ELEMENTWISE_F32, rtol=0)


def as_complex(x):
    """Components i and i + K/2 of every head as one number."""
    first, second = np.split(np.asarray(x, np.float64), 2, axis=-1)
    return first + 1j * second


def test_every_token_of_every_row_and_head_turns_by_its_own_angle(rng):
    x = rng.standard_normal((2, 6, 3, 10)).astype(np.float32)
    angles = rng.uniform(-3, 3, (6, 5)).astype(np.float32)
    expected = as_complex(x) * np.exp(1j * angles.astype(np.float64))[None, :, None]
    turned = as_complex(apply_rotary(jnp.asarray(x), make_rotation(jnp.asarray(angles))))
    assert np.linalg.norm(turned - expected) / np.linalg.norm(expected) < ELEMENTWISE_F32
    reversed_tokens = as_complex(apply_rotary(jnp.asarray(x), make_rotation(jnp.asarray(angles[::-1]))))
    assert np.linalg.norm(reversed_tokens - expected) / np.linalg.norm(expected) > ELEMENTWISE_F32


def test_bfloat16_heads_round_once(rng):
    x = jnp.asarray(rng.standard_normal((1, 6, 2, 10)), jnp.bfloat16)
    rotation = make_rotation(jnp.asarray(rng.uniform(-3, 3, (6, 5)), jnp.float32))
    turned = apply_rotary(x, rotation)
    assert turned.dtype == jnp.bfloat16
    assert np.array_equal(turned, apply_rotary(x.astype(jnp.float32), rotation).astype(jnp.bfloat16))
