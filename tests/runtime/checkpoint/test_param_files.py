import warnings

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from jax_interp.nn.params import flatten
from jax_interp.runtime.checkpoint import param_files
from jax_interp.runtime.checkpoint.param_files import (
    ArrayStream,
    open_array,
    read_arrays,
    read_params,
    split_rows,
    write_params,
)


@pytest.fixture
def params(rng):
    return {
        "blocks": {"kernel": rng.standard_normal((5, 8, 16), np.float32), "scale": np.ones((5, 8), ml_dtypes.bfloat16)},
        "table": rng.standard_normal((7, 3)).astype(np.float16),
        "steps": np.arange(4, dtype=np.int32),
        "scalar": np.float32(2.5),
        "empty": np.zeros((0, 3), np.float32),
        "zeros": np.zeros((3, 2), np.float32),
    }


def target_of(params, sharding=None):
    sharding = sharding or SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=sharding), params)


def assert_same(read, params):
    read, params = dict(flatten(read)), dict(flatten(params))
    assert read.keys() == params.keys()
    for path, array in params.items():
        assert isinstance(read[path], jax.Array)
        assert read[path].dtype == array.dtype, path
        assert np.asarray(read[path]).tobytes() == np.asarray(array).tobytes(), path


def test_every_dtype_and_shape_survives(tmp_path, params):
    write_params(tmp_path / "params", params)
    assert_same(read_params(tmp_path / "params", target_of(params)), params)


def test_a_path_may_lead_upwards(tmp_path, params):
    """TensorStore itself takes no `..`."""
    (tmp_path / "here").mkdir()
    path = tmp_path / "here" / ".." / "params"
    write_params(path, params)
    assert_same(read_params(path, target_of(params)), params)
    np.testing.assert_array_equal(open_array(path, "table").read().result(), params["table"])


def test_chunks_are_whole_layers(tmp_path, params, monkeypatch):
    monkeypatch.setattr(param_files, "CHUNK_BYTES", 1100)
    stream = ArrayStream.of(params["blocks"]["kernel"])
    assert stream.chunk_shape == (2, 8, 16)
    write_params(tmp_path / "params", params)
    files = sorted((tmp_path / "params" / "blocks.kernel" / "c").glob("*/0/0"))
    assert [path.stat().st_size for path in files] == [1024] * 3
    assert_same(read_params(tmp_path / "params", target_of(params)), params)
    monkeypatch.setattr(param_files, "CHUNK_BYTES", 1)
    assert stream.chunk_shape == (1, 8, 16)


def test_one_layer_is_read_by_itself(tmp_path, params, monkeypatch):
    monkeypatch.setattr(param_files, "CHUNK_BYTES", 512)
    write_params(tmp_path / "params", params)
    for path in (tmp_path / "params" / "blocks.kernel" / "c").glob("[0124]"):
        (path / "0" / "0").unlink()
    array = open_array(tmp_path / "params", "blocks/kernel")
    np.testing.assert_array_equal(array[3].read().result(), params["blocks"]["kernel"][3])
    with pytest.raises(ValueError, match="missing"):
        array[2].read().result()


def test_a_stream_is_asked_for_one_chunk_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(param_files, "CHUNK_BYTES", 8)
    values, asked = np.arange(10, dtype=np.float32).reshape(5, 2), []

    def pieces(rows):
        for start in range(0, 5, rows):
            asked.append(len(list((tmp_path).rglob("c/*/*"))))
            yield values[start : start + rows]

    write_params(tmp_path / "params", {"w": ArrayStream((5, 2), values.dtype, pieces)})
    assert asked == [0, 1, 2, 3, 4]
    assert_same(read_params(tmp_path / "params", target_of({"w": values})), {"w": values})


def test_read_straight_into_another_layout_dtype_and_memory(tmp_path, params):
    write_params(tmp_path / "params", {"w": params["blocks"]["kernel"]})
    mesh = jax.make_mesh((8,), ("x",))
    for memory in ("device", "pinned_host"):
        sharding = NamedSharding(mesh, PartitionSpec(None, None, "x"), memory_kind=memory)
        target = {"w": jax.ShapeDtypeStruct((5, 8, 16), jnp.bfloat16, sharding=sharding)}
        read = read_params(tmp_path / "params", target)["w"]
        assert read.sharding == sharding
        shards = [np.asarray(shard.data) for shard in read.addressable_shards]
        assert {shard.shape for shard in shards} == {(5, 8, 2)}
        expected = params["blocks"]["kernel"].astype(ml_dtypes.bfloat16)
        np.testing.assert_array_equal(np.concatenate(shards, axis=-1), expected)


def test_orbax_reads_it_without_this_package(tmp_path, params):
    write_params(tmp_path / "params", params)
    with ocp.PyTreeCheckpointer() as checkpointer:
        read = checkpointer.restore(tmp_path / "params")
    np.testing.assert_array_equal(read["blocks"]["kernel"], params["blocks"]["kernel"])


def test_nothing_is_printed(tmp_path, params, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_params(tmp_path / "params", params)
        read_params(tmp_path / "params", target_of(params))
    assert capfd.readouterr() == ("", "")


def test_a_fault_while_writing_comes_through_and_leaves_no_checkpoint(tmp_path):
    def pieces(rows):
        yield np.zeros((rows, 2), np.float32)
        raise KeyError("broken tensor")

    with pytest.raises(KeyError, match="broken tensor"):
        write_params(tmp_path / "params", {"w": ArrayStream((1 << 22, 2), np.dtype(np.float32), pieces)})
    assert not (tmp_path / "params").exists()


def test_rows_of_a_scalar_are_the_scalar():
    assert [piece.shape for piece in split_rows(np.array(1, np.float32), 3)] == [()]
    assert [len(piece) for piece in split_rows(np.zeros((7, 2)), 3)] == [3, 3, 1]


def wanted(params):
    return {path: np.asarray(array).dtype for path, array in flatten(params)}


def test_arrays_are_read_by_name_as_numpy(tmp_path, params):
    write_params(tmp_path / "params", params)
    read = read_arrays(tmp_path / "params", wanted(params))
    stored = dict(flatten(params))
    assert list(read) == list(stored)
    for path, array in stored.items():
        assert isinstance(read[path], np.ndarray)
        assert (read[path].dtype, read[path].shape) == (array.dtype, np.shape(array)), path
        assert read[path].tobytes() == np.asarray(array).tobytes(), path
    assert list(read_arrays(tmp_path / "params", {"table": np.dtype(np.float16)})) == ["table"]
    assert read_arrays(tmp_path / "params", {}) == {}


def test_one_row_of_stacks_is_read_in_any_dtype(tmp_path, params, monkeypatch):
    monkeypatch.setattr(param_files, "CHUNK_BYTES", 1100)
    write_params(tmp_path / "params", params)
    names = {"blocks/kernel": np.dtype(ml_dtypes.bfloat16), "blocks/scale": np.dtype(np.float32)}
    rows = [read_arrays(tmp_path / "params", names, row) for row in range(5)]
    kernels, scales = ([row[name] for row in rows] for name in names)
    assert {array.dtype for array in kernels} == {np.dtype(ml_dtypes.bfloat16)}
    np.testing.assert_array_equal(kernels, params["blocks"]["kernel"].astype(ml_dtypes.bfloat16))
    assert {(array.dtype, array.shape) for array in scales} == {(np.dtype(np.float32), (8,))}
    assert not np.array_equal(kernels[0], kernels[1])
    with pytest.raises((ValueError, IndexError), match="5"):
        read_arrays(tmp_path / "params", names, 5)


def test_of_a_stack_only_the_files_of_the_row_are_touched(tmp_path, params, monkeypatch):
    monkeypatch.setattr(param_files, "CHUNK_BYTES", 512)
    write_params(tmp_path / "params", params)
    for path in (tmp_path / "params" / "blocks.kernel" / "c").glob("[0124]"):
        (path / "0" / "0").unlink()
    names = {"blocks/kernel": np.dtype(np.float32)}
    read = read_arrays(tmp_path / "params", names, 3)["blocks/kernel"]
    np.testing.assert_array_equal(read, params["blocks"]["kernel"][3])
    with pytest.raises(ValueError, match="missing"):
        read_arrays(tmp_path / "params", names, 2)
    with pytest.raises(ValueError, match="missing"):
        read_arrays(tmp_path / "params", names)


def test_an_array_that_is_not_there(tmp_path, params):
    write_params(tmp_path / "params", params)
    with pytest.raises(ValueError, match=r"blocks\.absent"):
        read_arrays(tmp_path / "params", {"blocks/absent": np.dtype(np.float32)})
