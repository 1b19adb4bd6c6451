"""Sinusoid and learned positions by hand."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_interp.nn.embeddings import AxisPositions, CellPositions, sinusoid
from tests.golden import relative_l2
from tests.tolerances import ELEMENTWISE_F32


def test_sinusoid_is_cosines_then_sines():
    angles = 0.7 * 10000.0 ** (-np.arange(4) / 4)
    expected = np.concatenate([np.cos(angles), np.sin(angles)])[None]
    assert relative_l2(sinusoid(jnp.asarray([0.7]), 8), expected) < ELEMENTWISE_F32


def test_a_position_is_the_sum_of_its_axes_at_unit_rms():
    positions = AxisPositions((4, 5, 6), 16, dtype=jnp.float32, rngs=nnx.Rngs(0))
    by_axis = positions((2, 3, 2))
    assert [axis.shape for axis in by_axis] == [(2, 1, 1, 16), (3, 1, 16), (2, 16), (2, 3, 2, 1)]
    out = by_axis.expand()
    assert out.shape == (12, 16)
    summed = positions.t[...][1] + positions.h[...][2] + positions.w[...][0]
    expected = summed / jnp.sqrt(jnp.mean(summed**2))
    assert relative_l2(out[1 * 6 + 2 * 2 + 0], expected) < 1e-4  # the divisor carries 1e-6 against an RMS of 0.035


def test_positions_of_some_cells_are_a_row():
    vectors = jnp.arange(24.0).reshape(2, 3, 4)
    assert CellPositions(vectors).expand().tolist() == np.arange(24.0).reshape(6, 4).tolist()
