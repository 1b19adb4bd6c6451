"""Shapes of meshes as they are written, and arrays laid out over one."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jax_interp.errors import UsageError
from jax_interp.runtime import host, mesh
from jax_interp.runtime.mesh import REPLICATED, DeviceMesh, local_shapes
from jax_interp.runtime.mesh_shape import ALONE, AXES, MeshShape

DEVICE = jax.devices()[0].default_memory().kind


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("data=2,sequence=3,tensor=4", MeshShape(2, 3, 4)),
        ("tensor=4,data=2", MeshShape(2, 1, 4)),
        (" sequence = 8 ", MeshShape(sequence=8)),
        ("data=1", ALONE),
        ("data=007", MeshShape(data=7)),
    ],
)
def test_a_shape_is_read(text, shape):
    assert MeshShape.parse(text) == shape
    assert MeshShape.parse(str(shape)) == shape


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "data", "data=", "=2", "2", "data=two", "data=-1", "data=1.5", "data=2=2", "data=2;sequence=2"),
        *("data=2,", "data=2,data=2", "Data=2", "pipeline=2", "data=2 sequence=2", "data=²"),
    ],
)
def test_what_is_no_shape_is_refused(text):
    with pytest.raises(UsageError, match=r"--mesh .*: expected sizes of data, sequence, tensor, as in data=2,seq"):
        MeshShape.parse(text)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("size", [0, -2])
def test_an_axis_has_devices(axis, size):
    with pytest.raises(UsageError, match=f"mesh axis {axis} is {size}; expected 1 or more"):
        MeshShape(**{axis: size})


def test_nothing_along_an_axis_is_said_also_when_written():
    with pytest.raises(UsageError, match="mesh axis sequence is 0; expected 1 or more"):
        MeshShape.parse("sequence=0")


def test_sizes_and_names():
    assert (ALONE.size, MeshShape(2, 3, 4).size) == (1, 24)
    assert str(MeshShape(2, 3, 4)) == "data=2,sequence=3,tensor=4"


@pytest.mark.parametrize(
    ("data", "one_branch", "two_branches"), [(1, 1, 1), (2, 2, 1), (3, 3, 3), (4, 4, 2), (5, 5, 5), (6, 6, 3)]
)
def test_fewest_pairs_that_leave_no_device_idle(data, one_branch, two_branches):
    shape = MeshShape(data, sequence=2)
    assert (shape.pairs_at_once(1), shape.pairs_at_once(2)) == (one_branch, two_branches)
    for branches, pairs in ((1, one_branch), (2, two_branches)):
        assert pairs * branches % data == 0


def test_too_few_devices_are_said():
    with pytest.raises(UsageError, match=r"--mesh data=3,sequence=3,tensor=1 needs 9 devices, but 8 are there \(cpu"):
        DeviceMesh(MeshShape(3, 3))
    with pytest.raises(UsageError, match="needs 2 devices, but 1 are there"):
        DeviceMesh(MeshShape(2), jax.devices()[:1])


def test_devices_may_be_left_over():
    devices = DeviceMesh(MeshShape(data=3), jax.devices()[2:])
    assert list(devices.mesh.devices.flat) == jax.devices()[2:5]
    assert DeviceMesh().mesh.devices.tolist() == [[[jax.devices()[0]]]]


@pytest.mark.parametrize(
    ("shape", "alone", "shares"),
    [(ALONE, True, 1), (MeshShape(2), False, 2), (MeshShape(2, 2, 2), False, 4), (MeshShape(tensor=2), False, 1)],
    ids=str,
)
def test_a_mesh_within_one_process(shape, alone, shares):
    devices = DeviceMesh(shape)
    assert devices.mesh.axis_names == AXES
    assert devices.mesh.devices.shape == (shape.data, shape.sequence, shape.tensor)
    assert (devices.alone, devices.num_shards, devices.shard_axes) == (alone, shares, ("data", "sequence"))


def test_neighbours_along_tensor_are_neighbours():
    grid = DeviceMesh(MeshShape(2, 2, 2)).mesh.devices
    assert [device.id for device in grid[0, 0]] == [0, 1]
    assert [device.id for device in grid[:, 0, 0]] == [0, 4]


@dataclass(frozen=True)
class Far:
    """A device of some process, as a mesh looks at it."""

    id: int
    process_index: int
    platform: str = "far"


@pytest.fixture
def processes(monkeypatch):
    """Four devices in each of two processes."""

    class Grid:
        def __init__(self, sizes, names, *, axis_types, devices):
            self.devices = np.array(devices, object).reshape(sizes)

    monkeypatch.setattr(jax, "make_mesh", Grid)
    return [Far(number, number // 4) for number in range(8)]


@pytest.mark.parametrize(
    ("shape", "axes", "shares"),
    [
        (MeshShape(data=8), ("sequence",), 1),
        (MeshShape(data=2, sequence=4), ("sequence",), 4),
        (MeshShape(data=2, sequence=2, tensor=2), ("sequence",), 2),
        (MeshShape(sequence=8), ("data",), 1),
    ],
    ids=str,
)
def test_weights_are_divided_only_within_a_process(processes, shape, axes, shares):
    devices = DeviceMesh(shape, processes)
    assert (devices.shard_axes, devices.num_shards) == (axes, shares)


def test_tensor_does_not_leave_a_process(processes):
    with pytest.raises(UsageError, match="the devices of the axis tensor have to be in one process"):
        DeviceMesh(MeshShape(tensor=8), processes)


def test_every_process_gives_equally_many_devices(processes):
    shape = MeshShape(data=2, sequence=2)
    assert [device.id for device in DeviceMesh(shape, processes).mesh.devices.flat] == [0, 1, 4, 5]
    assert DeviceMesh(shape, processes).shard_axes == ("sequence",)


@pytest.mark.parametrize("shape", [ALONE, MeshShape(3), MeshShape(7)], ids=str)
def test_no_process_is_left_out(processes, shape):
    with pytest.raises(UsageError, match=rf"--mesh .*: its {shape.size} devices cannot be divided among"):
        DeviceMesh(shape, processes)


@pytest.fixture
def params(rng):
    return {
        "layer": {"kernel": rng.standard_normal((4, 6)).astype(ml_dtypes.bfloat16), "bias": np.arange(6, dtype=np.int8)}
    }


SPECS = {"layer": {"kernel": P("sequence", "tensor"), "bias": P("tensor")}}


def assert_same(ours, params):
    for array, original in zip(jax.tree.leaves(ours), jax.tree.leaves(params), strict=True):
        assert array.dtype == original.dtype
        assert np.asarray(array).tobytes() == original.tobytes()


def layout(tree):
    """(memory, ids of the devices, shape of a piece) of every leaf."""
    return [
        (leaf.sharding.memory_kind, sorted(d.id for d in leaf.devices()), leaf.addressable_shards[0].data.shape)
        for leaf in jax.tree.leaves(tree)
    ]


def test_there_and_back(params):
    """bias, then kernel."""
    devices = DeviceMesh(MeshShape(2, 2, 2))
    everywhere = list(range(8))
    waiting = devices.keep_on_host(params, SPECS)
    assert_same(waiting, params)
    assert layout(waiting) == [("pinned_host", everywhere, (3,)), ("pinned_host", everywhere, (2, 3))]
    assert DEVICE != "pinned_host"
    for origin in (waiting, params):
        there = devices.put(origin, SPECS)
        assert_same(there, params)
        assert layout(there) == [(DEVICE, everywhere, (3,)), (DEVICE, everywhere, (2, 3))]


def test_pieces_lie_where_the_specs_say(params):
    there = DeviceMesh(MeshShape(2, 2, 2)).put(params, SPECS)["layer"]["kernel"]
    for shard in there.addressable_shards:
        row, column = shard.device.id // 2 % 2, shard.device.id % 2
        expected = params["layer"]["kernel"][2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
        assert np.asarray(shard.data).tobytes() == expected.tobytes()


def test_unless_told_otherwise_every_device_gets_everything(params):
    devices = DeviceMesh(MeshShape(2), jax.devices()[3:])
    for tree, kind in ((devices.put(params), DEVICE), (devices.keep_on_host(params), "pinned_host")):
        assert_same(tree, params)
        assert layout(tree) == [(kind, [3, 4], (6,)), (kind, [3, 4], (4, 6))]
    assert layout(DeviceMesh().put(params)) == [(DEVICE, [0], (6,)), (DEVICE, [0], (4, 6))]


def test_shardings_by_tree_and_by_one_spec(params):
    devices = DeviceMesh(MeshShape(2, 2, 2))
    for specs, expected in ((SPECS, SPECS["layer"]), (P("data"), {"kernel": P("data"), "bias": P("data")})):
        shardings = devices.shardings(params, specs)["layer"]
        assert {name: sharding.spec for name, sharding in shardings.items()} == expected
        assert {sharding.memory_kind for sharding in shardings.values()} == {DEVICE}
    assert devices.sharding(host=True).memory_kind == "pinned_host"
    assert devices.sharding().spec == REPLICATED


def test_what_one_device_holds(params):
    devices = DeviceMesh(MeshShape(2, 2, 2))
    local = local_shapes(params, devices.shardings(params, SPECS))
    assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(local)] == [((3,), jnp.int8), ((2, 3), jnp.bfloat16)]


def test_without_pinned_memory_parameters_stay_as_they_are(params, monkeypatch, caplog):
    monkeypatch.setattr(mesh, "pins", lambda device: False)
    devices = DeviceMesh(MeshShape(2))
    assert devices.keep_on_host(params) is params
    assert devices.sharding(host=True).memory_kind == DEVICE
    assert not caplog.records


@pytest.fixture
def warned():
    """The warning has not been given yet."""
    host._warn_pageable.cache_clear()
    yield
    host._warn_pageable.cache_clear()


def refuse(monkeypatch, message):
    def device_put(*args, **kwargs):
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(jax, "device_put", device_put)


@pytest.mark.parametrize("shape", [ALONE, MeshShape(2, 2)], ids=str)
@pytest.mark.parametrize(
    "message", ["RESOURCE_EXHAUSTED: Failed to allocate request for 2.0GiB", "INTERNAL: CUDA: out of memory"]
)
def test_pinned_memory_that_runs_out_is_said_once(params, warned, monkeypatch, caplog, message, shape):
    refuse(monkeypatch, message)
    for _ in range(3):
        assert DeviceMesh(shape).keep_on_host(params) is params
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "pinned host memory ran out" in caplog.text
    assert "XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB" in caplog.text


def test_other_errors_pass_through(params, warned, monkeypatch, caplog):
    refuse(monkeypatch, "INTERNAL: the device is gone")
    with pytest.raises(jax.errors.JaxRuntimeError, match="the device is gone"):
        DeviceMesh().keep_on_host(params)
    assert not caplog.records


def test_an_array_is_asked_for_piece_by_piece():
    devices = DeviceMesh(MeshShape(data=4))
    asked = []

    def piece(index):
        rows = range(*index[0].indices(8))
        asked.append(list(rows))
        return np.array([[row, 10 * row] for row in rows], np.float32)

    array = devices.local((8, 2), P("data"), piece)
    assert sorted(asked) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert array.sharding == devices.sharding(P("data"))
    assert array.tolist() == [[row, 10 * row] for row in range(8)]
