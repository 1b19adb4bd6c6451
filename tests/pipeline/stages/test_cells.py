"""Tokens by frame and cell, on grids small enough to count."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.models.dit import DiTBlockInputs
from jax_interp.nn.embeddings import CellPositions
from jax_interp.pipeline.stages import cells
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import ALONE, MeshShape

FRAMES, CELLS, WIDTH = 3, 4, 2


def tokens():
    """Token i of the clip is [2i, 2i + 1]."""
    return jnp.arange(FRAMES * CELLS * WIDTH, dtype=jnp.float32).reshape(1, FRAMES * CELLS, WIDTH)


def shared():
    positions = CellPositions(tokens()[0])
    rotation = jnp.stack([jnp.arange(12.0), -jnp.arange(12.0)])[..., None]
    nothing: Any = jnp.zeros((1, 1))
    return DiTBlockInputs(nothing, nothing, positions, rotation, nothing)


def test_cells_of_a_frame():
    assert cells.num_cells((1, 3, 8, 12, 16), patch_size=2) == 4 * 6


def test_one_device_has_all_cells_as_they_are():
    x, same = cells.lay_out(tokens(), given := shared(), FRAMES, DeviceMesh(ALONE))
    np.testing.assert_array_equal(x.reshape(1, -1, WIDTH), tokens())
    assert x.shape == (1, FRAMES, CELLS, WIDTH)
    assert same is given


@pytest.mark.parametrize(("sequence", "filled"), [(2, 4), (3, 6), (8, 8)])
def test_zeros_fill_every_frame_up_so_that_its_cells_divide(sequence, filled):
    x, inputs = cells.lay_out(tokens(), shared(), FRAMES, DeviceMesh(MeshShape(sequence=sequence)))
    assert x.shape == (1, FRAMES, filled, WIDTH)
    np.testing.assert_array_equal(x[:, :, :CELLS].reshape(1, -1, WIDTH), tokens())
    assert not x[:, :, CELLS:].any()
    positions: Any = inputs.positions
    np.testing.assert_array_equal(positions.vectors, x[0])
    assert inputs.rotation.shape == (2, FRAMES, filled, 1)
    np.testing.assert_array_equal(inputs.rotation[:, :, :CELLS].reshape(2, 12, 1), shared().rotation)


class Block:
    """Doubles what it is asked about, and remembers how it was asked."""

    def attend(self, x, inputs, chosen, collectives):
        self.rotation = inputs.rotation.shape
        return 2 * x[:, chosen]

    def transform(self, x, inputs, collectives):
        assert x.shape == (1, FRAMES * CELLS, WIDTH)
        return x + 1


class Network:
    def project(self, x, inputs):
        assert x.shape == (1, FRAMES * CELLS, WIDTH)
        return x.sum(-1, keepdims=True)


def test_a_block_sees_tokens_and_gives_cells():
    block: Any = Block()
    alone = DeviceMesh(ALONE)
    x, inputs = cells.lay_out(tokens(), shared(), FRAMES, alone)
    np.testing.assert_array_equal(cells.attend(block, x, inputs, devices=alone, cells=CELLS), 2 * x)
    assert block.rotation == (2, 12, 1)
    between = cells.attend(block, x, inputs, devices=alone, cells=CELLS, between=True)
    np.testing.assert_array_equal(between, 2 * x[:, 1:-1])
    np.testing.assert_array_equal(cells.transform(block, x, inputs, devices=alone), x + 1)


def test_patches_come_by_frame_and_cell():
    network: Any = Network()
    x, inputs = cells.lay_out(tokens(), shared(), FRAMES, DeviceMesh(ALONE))
    np.testing.assert_array_equal(cells.project(network, x, inputs), x.sum(-1, keepdims=True))
