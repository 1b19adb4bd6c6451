"""Attention over spread tokens is that over all of them; sums over devices; and what travels between them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jax_interp.nn.attention import attention
from jax_interp.nn.collectives import ONE_DEVICE
from jax_interp.runtime import all_to_all
from jax_interp.runtime.all_to_all import collectives_between, head_groups
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.runtime.mesh_shape import MeshShape
from tests.golden import relative_l2
from tests.tolerances import ELEMENTWISE_F32

FRAMES, WIDTH = 3, 8
LAID = P("data", None, "sequence", "tensor")
"""[B, T, cells, N, K]"""


def draw(rng, cells, heads, rows=2):
    """Queries, keys and values of all tokens."""
    return [rng.standard_normal((rows, FRAMES, cells, heads, WIDTH)).astype(np.float32) for _ in range(3)]


def fill_up(x, ranks):
    """`x` with cells that are no number, so that devices have equally many."""
    return np.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % ranks), (0, 0), (0, 0)), constant_values=np.nan)


def spread_attention(shape, cells, frames=slice(None)):
    """The program of `attend` on a mesh, for queries of some `frames`."""
    devices = DeviceMesh(shape)
    cells_here = -(-cells // shape.sequence)
    collectives = collectives_between(devices, cells=cells, cells_here=cells_here)

    def each(q, k, v):
        flat = (x.reshape(x.shape[0], -1, *x.shape[3:]) for x in (q[:, frames], k, v))
        out = collectives.attend(*flat)
        return out.reshape(out.shape[0], -1, cells_here, *out.shape[2:])

    program = jax.shard_map(each, mesh=devices.mesh, in_specs=(LAID,) * 3, out_specs=LAID, check_vma=False)
    return jax.jit(program), lambda arrays: [devices.put(fill_up(x, shape.sequence), LAID) for x in arrays]


def attend_spread(shape, arrays, frames=slice(None)):
    cells = arrays[0].shape[2]
    program, put = spread_attention(shape, cells, frames)
    out = np.asarray(program(*put(arrays)))
    assert not out[:, :, cells:].any()
    return out[:, :, :cells]


def attend_here(arrays, frames=slice(None)):
    q, k, v = arrays
    flat = (jnp.asarray(x.reshape(x.shape[0], -1, *x.shape[3:])) for x in (q[:, frames], k, v))
    return np.asarray(attention(*flat)).reshape(q[:, frames].shape)


CASES = {
    "even": (MeshShape(sequence=2), 6, 4),
    "odd cells": (MeshShape(sequence=2), 7, 4),
    "odd heads": (MeshShape(sequence=2), 6, 3),
    "odd both": (MeshShape(sequence=3), 7, 5),
    "one cell a device": (MeshShape(sequence=4), 4, 4),
    "more devices than heads": (MeshShape(sequence=8), 9, 3),
    "more devices than cells": (MeshShape(sequence=5), 3, 5),
    "a device without a cell": (MeshShape(sequence=8), 9, 8),
    "one head": (MeshShape(sequence=2), 5, 1),
    "heads split": (MeshShape(tensor=2), 5, 4),
    "rows, cells and heads": (MeshShape(2, 2, 2), 5, 6),
    "fewer heads than devices after the split": (MeshShape(1, 4, 2), 5, 6),
}


QUICK = ("odd both", "rows, cells and heads", "a device without a cell")
SWEEP = [pytest.param(*case, id=name, marks=() if name in QUICK else pytest.mark.slow) for name, case in CASES.items()]


@pytest.mark.parametrize(("shape", "cells", "heads"), SWEEP)
def test_spread_attention_is_attention(shape, cells, heads, rng):
    arrays = draw(rng, cells, heads)
    assert relative_l2(attend_spread(shape, arrays), attend_here(arrays)) < ELEMENTWISE_F32


@pytest.mark.parametrize(("shape", "cells", "heads"), SWEEP)
def test_queries_of_some_frames_see_all_tokens(shape, cells, heads, rng):
    arrays = draw(rng, cells, heads)
    frames = slice(1, 2)
    assert relative_l2(attend_spread(shape, arrays, frames), attend_here(arrays, frames)) < ELEMENTWISE_F32


@pytest.mark.parametrize("which", [0, 1, 2], ids=["query", "key", "value"])
@pytest.mark.parametrize(("shape", "cells", "heads"), [(MeshShape(sequence=3), 7, 5), (MeshShape(2, 2, 2), 5, 6)])
def test_one_changed_token_is_noticed(shape, cells, heads, which, rng):
    arrays = draw(rng, cells, heads)
    before = attend_here(arrays)
    arrays[which][0, 2, cells - 1, 0] += 1
    after = attend_spread(shape, arrays)
    assert relative_l2(after, before) > ELEMENTWISE_F32
    assert relative_l2(after, attend_here(arrays)) < ELEMENTWISE_F32
    reached = (np.abs(after - before).max(-1) > 1e-6).any(-1)  # [B, T, cells]
    assert reached[0].all() if which else reached[0, 2, cells - 1] and reached.sum() == 1
    assert not reached[1].any()


def test_cells_that_are_not_left_out_would_be_noticed(rng):
    """Told that all cells are real, devices attend to those that fill them up."""
    arrays = draw(rng, 7, 4)
    program, _ = spread_attention(MeshShape(sequence=2), 8)
    devices = DeviceMesh(MeshShape(sequence=2))
    filled = [devices.put(np.nan_to_num(fill_up(x, 2)), LAID) for x in arrays]
    assert relative_l2(np.asarray(program(*filled))[:, :, :7], attend_here(arrays)) > ELEMENTWISE_F32


@pytest.mark.parametrize("shape", [MeshShape(tensor=4), MeshShape(2, 2, 2), MeshShape(tensor=3)], ids=str)
def test_sums_are_over_tensor_alone(shape, rng):
    devices = DeviceMesh(shape)
    x = rng.integers(-99, 99, (shape.data, shape.sequence, shape.tensor * 5)).astype(np.float32)
    laid = P("data", "sequence", "tensor")
    add = collectives_between(devices).all_reduce
    program = jax.jit(jax.shard_map(add, mesh=devices.mesh, in_specs=laid, out_specs=laid, check_vma=False))
    summed = x.reshape(*x.shape[:2], shape.tensor, 5).sum(2, keepdims=True)
    expected = np.broadcast_to(summed, (*x.shape[:2], shape.tensor, 5)).reshape(x.shape)
    np.testing.assert_array_equal(program(devices.put(x, laid)), expected)


@pytest.mark.parametrize("shape", [MeshShape(data=4), MeshShape(sequence=4)], ids=str)
def test_where_tensor_is_one_nothing_is_summed(shape):
    x = jnp.ones((1, 2, 3))
    assert collectives_between(DeviceMesh(shape)).all_reduce(x) is x


def test_one_device_needs_nobody():
    assert collectives_between(DeviceMesh()) is ONE_DEVICE
    assert ONE_DEVICE.attend is attention


@pytest.mark.parametrize(
    ("tokens", "heads", "ranks", "groups"),
    [
        (10_560, 32, 2, 2),  # 16 heads are ten turns of an H100's multiprocessors, and so are twice 8
        (10_560, 32, 4, 1),  # 8 heads are five turns, twice 4 would be six
        (56_320, 32, 8, 2),
        (10_560, 32, 3, 1),  # does not divide
        (64, 4, 2, 1),
    ],
)
def test_heads_go_in_two_groups_where_that_takes_no_longer(tokens, heads, ranks, groups):
    assert head_groups(tokens, heads, ranks) == groups


def test_groups_give_the_same_bits(rng, monkeypatch):
    arrays, shape = draw(rng, 6, 8), MeshShape(sequence=2)
    together = attend_spread(shape, arrays)
    monkeypatch.setattr(all_to_all, "head_groups", lambda *_: 2)
    np.testing.assert_array_equal(attend_spread(shape, arrays), together)
    program, put = spread_attention(shape, 6)
    assert len(re.findall(r" all-to-all\(", program.lower(*put(arrays)).compile().as_text() or "")) == 4


COLLECTIVES = ("all-to-all", "all-gather", "all-reduce", "collective-permute", "reduce-scatter")


def collectives(text):
    """How often each kind of exchange stands in the text of a compiled program."""
    found = re.findall(rf"\s({'|'.join(COLLECTIVES)})(?:-start)?\(", text)
    return {kind: found.count(kind) for kind in found}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (MeshShape(sequence=4), {"all-to-all": 2}),
        (MeshShape(sequence=2), {"all-to-all": 2}),
        (MeshShape(2, 2, 2), {"all-to-all": 2}),
        (MeshShape(data=4), {}),
        (MeshShape(tensor=2), {}),
    ],
    ids=str,
)
def test_tokens_travel_once_to_their_heads_and_back(shape, expected, rng):
    """Queries, keys and values there, the result back, and nothing is gathered."""
    arrays = draw(rng, 7, 4, rows=4)
    program, put = spread_attention(shape, 7)
    assert collectives(program.lower(*put(arrays)).compile().as_text()) == expected
