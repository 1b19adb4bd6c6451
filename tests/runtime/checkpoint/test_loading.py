import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jax_interp.errors import CheckpointError
from jax_interp.models.dit import DiTBlock
from jax_interp.models.t5 import T5Block
from jax_interp.nn.params import flatten, unflatten
from jax_interp.runtime.checkpoint.converted import ConvertedComponent
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import StackedParams, load_params
from tests.convert.checkpoints import DIT
from tests.runtime.checkpoint.spoiling import remove_chunk


def abstract_of(found: ConvertedComponent):
    params = found.manifest["params"].items()
    return unflatten({path: jax.ShapeDtypeStruct(tuple(e["shape"]), np.dtype("float32")) for path, e in params})


def test_params_keep_their_dtype_or_become_another(copied):
    found = find_component(copied, "diffusion_transformer")
    stored = dict(flatten(load_params(found, abstract_of(found))))
    wide = dict(flatten(load_params(found, abstract_of(found), "float32")))
    assert {str(array.dtype) for array in stored.values()} == {"bfloat16"}
    assert {str(array.dtype) for array in wide.values()} == {"float32"}
    for path, array in stored.items():
        np.testing.assert_array_equal(np.asarray(array).astype(np.float32), np.asarray(wide[path]))
    assert all(array.sharding == jnp.zeros(()).sharding for array in stored.values())


def test_params_go_where_the_abstract_tree_says(copied):
    found = find_component(copied, "text_encoder")
    abstract = abstract_of(found)
    sharding = NamedSharding(jax.make_mesh((8,), ("x",)), PartitionSpec("x"))
    old = abstract["embedding"]
    abstract["embedding"] = jax.ShapeDtypeStruct((364 - 364 % 8, old.shape[1]), old.dtype, sharding=sharding)
    with pytest.raises(CheckpointError, match=r"embedding: shape \(364, 64\), expected \(360, 64\)"):
        load_params(found, abstract)
    sharding = NamedSharding(sharding.mesh, PartitionSpec(None, "x"))
    abstract["embedding"] = jax.ShapeDtypeStruct(old.shape, old.dtype, sharding=sharding)
    assert load_params(found, abstract)["embedding"].sharding == sharding


def test_a_tree_that_does_not_fit_is_refused_with_every_fault(copied):
    found = find_component(copied, "diffusion_transformer")
    abstract = abstract_of(found)
    del abstract["time_norm"]
    abstract["more"] = {"kernel": jax.ShapeDtypeStruct((2,), np.float32)}
    with pytest.raises(CheckpointError) as error:
        load_params(found, abstract)
    assert "missing more/kernel" in str(error.value)
    assert "unknown time_norm/scale" in str(error.value)


def test_a_fault_while_reading_names_the_folder(copied, monkeypatch):
    def fail(path, target):
        raise ValueError("DATA_LOSS: zarr.json")

    found = find_component(copied, "diffusion_transformer")
    monkeypatch.setattr("jax_interp.runtime.checkpoint.loading.read_params", fail)
    with pytest.raises(CheckpointError, match=f"{DIT}/params: cannot be read.*DATA_LOSS"):
        load_params(found, abstract_of(found))


PARTS = {"diffusion_transformer": DiTBlock.PARTS, "text_encoder": T5Block.PARTS}


@pytest.mark.parametrize("dtype", [None, "float32"])
@pytest.mark.parametrize("component", ["diffusion_transformer", "text_encoder"])
def test_blocks_are_the_rows_of_the_stacks(copied, component, dtype):
    found = find_component(copied, component)
    abstract = abstract_of(found)
    whole = dict(load_params(found, abstract, dtype))
    stacked = StackedParams(found, abstract, dtype)
    stacks = dict(flatten(whole.pop("blocks")))
    count = len(next(iter(stacks.values())))
    assert count > 1
    for index in range(count):
        parts = [dict(flatten(stacked.part(index, names))) for names in PARTS[component]]
        block = parts[0] | parts[1]
        assert block.keys() == stacks.keys()
        assert len(parts[0]) + len(parts[1]) == len(block)
        for path, array in block.items():
            assert isinstance(array, np.ndarray)
            assert array.dtype == stacks[path].dtype
            np.testing.assert_array_equal(array, np.asarray(stacks[path][index]))
    outer, expected = dict(flatten(stacked.outer())), dict(flatten(whole))
    assert outer.keys() == expected.keys()
    for path, array in outer.items():
        assert array.dtype == expected[path].dtype
        np.testing.assert_array_equal(array, np.asarray(expected[path]))


def test_stacks_that_do_not_fit_are_refused_before_anything_is_read(copied):
    found = find_component(copied, "diffusion_transformer")
    abstract = abstract_of(found)
    kernel = abstract["blocks"]["mlp"]["up"]["kernel"]
    abstract["blocks"]["mlp"]["up"]["kernel"] = jax.ShapeDtypeStruct((9, *kernel.shape[1:]), kernel.dtype)
    del abstract["time_norm"]
    shutil.rmtree(found.path / "params")
    with pytest.raises(CheckpointError, match="convert it again") as error:
        StackedParams(found, abstract)
    assert f"blocks/mlp/up/kernel: shape {kernel.shape}, expected (9, " in str(error.value)
    assert "unknown time_norm/scale" in str(error.value)


def test_a_part_that_cannot_be_read_names_the_folder(copied):
    found = find_component(copied, "diffusion_transformer")
    stacked = StackedParams(found, abstract_of(found))
    attention, mlp = PARTS["diffusion_transformer"]
    stacked.part(0, mlp)
    remove_chunk(copied)
    message = f"{DIT}/params: cannot be read.*convert it again.*blocks.mlp.up.kernel"
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        stacked.part(0, mlp)
    assert "self_attention" in stacked.part(0, attention)
    assert "time_norm" in stacked.outer()


def test_memory_that_runs_out_while_reading_is_not_called_damage(copied, monkeypatch):
    def fail(*args):
        raise MemoryError

    found = find_component(copied, "diffusion_transformer")
    stacked = StackedParams(found, abstract_of(found))
    monkeypatch.setattr("jax_interp.runtime.checkpoint.loading.read_arrays", fail)
    monkeypatch.setattr("jax_interp.runtime.checkpoint.loading.read_params", fail)
    for read in (stacked.outer, lambda: stacked.part(1, ["mlp"]), lambda: load_params(found, abstract_of(found))):
        with pytest.raises(MemoryError):
            read()
