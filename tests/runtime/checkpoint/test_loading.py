import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jax_interp.config import DiTConfig, TokenizerConfig
from jax_interp.errors import CheckpointError
from jax_interp.models.dit import Block
from jax_interp.models.t5 import T5Block
from jax_interp.nn.params import flatten, unflatten
from jax_interp.runtime.checkpoint.loading import (
    ConvertedComponent,
    StackedParams,
    find_component,
    load_params,
    open_component,
)
from tests import golden
from tests.convert.checkpoints import DIT, T5, TOKENIZER

OTHER = "Cosmos-Predict1-7B-Video2World"


@pytest.fixture
def converted(converted, tmp_path):
    """The golden networks, converted, to be spoilt."""
    return shutil.copytree(converted, tmp_path / "converted")


def rewrite(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def abstract_of(found: ConvertedComponent):
    params = found.manifest["params"].items()
    return unflatten({path: jax.ShapeDtypeStruct(tuple(e["shape"]), np.dtype("float32")) for path, e in params})


def test_a_network_is_found_by_kind_by_name_and_in_its_own_folder(converted):
    found = find_component(converted, "diffusion_transformer")
    assert (found.path, found.component, found.dtype) == (converted / DIT, "diffusion_transformer", "bfloat16")
    assert isinstance(found.config, DiTConfig)
    assert (found.config.width, found.config.grid) == (128, (16, 16, 16))
    assert find_component(str(converted), "diffusion_transformer", DIT) == found
    assert find_component(converted / DIT, "diffusion_transformer") == found
    assert find_component(converted, "text_encoder").path == converted / T5


def test_among_several_the_default_is_taken_else_a_flag_is_asked_for(converted):
    shutil.copytree(converted / DIT, converted / OTHER)
    assert find_component(converted, "diffusion_transformer").path.name == DIT
    assert find_component(converted, "diffusion_transformer", OTHER).path.name == OTHER
    (converted / DIT).rename(converted / "mine")
    with pytest.raises(CheckpointError, match=f"--diffusion-transformer-dir: {OTHER}, mine"):
        find_component(converted, "diffusion_transformer")
    shutil.rmtree(converted / OTHER)
    assert find_component(converted, "diffusion_transformer").path.name == "mine"


def remove_config(folder):
    (folder / DIT / "config.json").unlink()


def remove_manifest(folder):
    (folder / DIT / "manifest.json").unlink()


def remove_params(folder):
    shutil.rmtree(folder / DIT / "params")


def remove_chunk(folder):
    next((folder / DIT / "params" / "blocks.mlp.up.kernel" / "c").rglob("0/0/0")).unlink()


def shorten_chunk(folder):
    chunk = next((folder / DIT / "params" / "blocks.mlp.up.kernel" / "c").rglob("0/0/0"))
    chunk.write_bytes(chunk.read_bytes()[:-1])


def interrupt(folder):
    (folder / DIT).rename(folder / f".{DIT}.converting")


def remove_network(folder):
    shutil.rmtree(folder / DIT)


def break_config(folder):
    (folder / DIT / "config.json").write_text('{"component": "diff')


def break_manifest(folder):
    (folder / DIT / "manifest.json").write_text("[1]")


def empty_manifest(folder):
    (folder / DIT / "manifest.json").write_text("{}")


def newer(folder):
    rewrite(folder / DIT / "config.json", lambda values: values.update(format_version=2))


def without_version(folder):
    rewrite(folder / DIT / "config.json", lambda values: values.pop("format_version"))


def unknown_field(folder):
    rewrite(folder / DIT / "config.json", lambda values: values["config"].update(depth=3))


BROKEN = [
    (remove_config, "incomplete, it lacks config.json"),
    (remove_manifest, "incomplete, it lacks manifest.json"),
    (remove_params, "incomplete, params/.*missing"),
    (remove_chunk, r"incomplete, params/blocks.mlp.up.kernel/c/0/0/0 is missing; convert it again"),
    (shorten_chunk, r"kernel/c/0/0/0 has \d+ bytes, expected \d+"),
    (interrupt, "interrupted; run `jax-interp convert .*--components diffusion_transformer`"),
    (remove_network, "has no diffusion_transformer .*run `jax-interp convert"),
    (break_config, "config.json: damaged"),
    (break_manifest, "manifest.json: damaged"),
    (empty_manifest, "lacks sources, params, files"),
    (newer, "of format 2, this program reads up to 1; upgrade"),
    (without_version, "damaged or not written by jax-interp"),
    (unknown_field, "not a DiTConfig of this version.*depth"),
]


@pytest.mark.parametrize("component", ["unet", ["diffusion_transformer"], {}, 3, None], ids=str)
def test_what_is_no_network_of_the_table_is_refused(converted, component):
    rewrite(converted / DIT / "config.json", lambda values: values.update(component=component))
    with pytest.raises(CheckpointError, match=r"config\.json: damaged or not written by jax-interp"):
        open_component(converted / DIT)


@pytest.mark.parametrize("name", [None, DIT])
@pytest.mark.parametrize(("damage", "text"), BROKEN, ids=[damage.__name__ for damage, _ in BROKEN])
def test_what_is_not_whole_is_refused(converted, damage, text, name):
    damage(converted)
    with pytest.raises(CheckpointError, match=text) as error:
        find_component(converted, "diffusion_transformer", name)
    assert str(converted) in str(error.value)


def test_an_absent_folder_and_an_unconverted_one_say_what_to_run(tmp_path):
    with pytest.raises(CheckpointError, match="absent: no such folder; make it with `jax-interp convert"):
        find_component(tmp_path / "absent", "tokenizer")
    for name in (None, DIT):
        with pytest.raises(
            CheckpointError, match=r"not converted.*PyTorch file; run `jax-interp convert --checkpoint-dir"
        ):
            find_component(golden.CHECKPOINTS, "diffusion_transformer", name)
    with pytest.raises(CheckpointError, match=r"model.pt is a PyTorch file"):
        find_component(golden.CHECKPOINTS / DIT, "diffusion_transformer")


def test_a_network_of_another_kind_is_refused(converted):
    with pytest.raises(CheckpointError, match="is a text_encoder, expected a diffusion_transformer"):
        find_component(converted, "diffusion_transformer", T5)


def test_other_programs_settings_are_passed_over(converted):
    (converted / "stuff").mkdir()
    (converted / "stuff" / "config.json").write_text("not even JSON")
    assert find_component(converted, "diffusion_transformer").path.name == DIT


def test_params_keep_their_dtype_or_become_another(converted):
    found = find_component(converted, "diffusion_transformer")
    stored = dict(flatten(load_params(found, abstract_of(found))))
    wide = dict(flatten(load_params(found, abstract_of(found), "float32")))
    assert {str(array.dtype) for array in stored.values()} == {"bfloat16"}
    assert {str(array.dtype) for array in wide.values()} == {"float32"}
    for path, array in stored.items():
        np.testing.assert_array_equal(np.asarray(array).astype(np.float32), np.asarray(wide[path]))
    assert all(array.sharding == jnp.zeros(()).sharding for array in stored.values())


def test_params_go_where_the_abstract_tree_says(converted):
    found = find_component(converted, "text_encoder")
    abstract = abstract_of(found)
    sharding = NamedSharding(jax.make_mesh((8,), ("x",)), PartitionSpec("x"))
    old = abstract["embedding"]
    abstract["embedding"] = jax.ShapeDtypeStruct((364 - 364 % 8, old.shape[1]), old.dtype, sharding=sharding)
    with pytest.raises(CheckpointError, match=r"embedding: shape \(364, 64\), expected \(360, 64\)"):
        load_params(found, abstract)
    sharding = NamedSharding(sharding.mesh, PartitionSpec(None, "x"))
    abstract["embedding"] = jax.ShapeDtypeStruct(old.shape, old.dtype, sharding=sharding)
    assert load_params(found, abstract)["embedding"].sharding == sharding


def test_a_tree_that_does_not_fit_is_refused_with_every_fault(converted):
    found = find_component(converted, "diffusion_transformer")
    abstract = abstract_of(found)
    del abstract["time_norm"]
    abstract["more"] = {"kernel": jax.ShapeDtypeStruct((2,), np.float32)}
    with pytest.raises(CheckpointError) as error:
        load_params(found, abstract)
    assert "missing more/kernel" in str(error.value)
    assert "unknown time_norm/scale" in str(error.value)


def test_a_fault_while_reading_names_the_folder(converted, monkeypatch):
    def fail(path, target):
        raise ValueError("DATA_LOSS: zarr.json")

    found = find_component(converted, "diffusion_transformer")
    monkeypatch.setattr("jax_interp.runtime.checkpoint.loading.read_params", fail)
    with pytest.raises(CheckpointError, match=f"{DIT}/params: cannot be read.*DATA_LOSS"):
        load_params(found, abstract_of(found))


def test_a_manifest_may_be_read_of_what_is_not_whole(converted):
    remove_params(converted)
    found = open_component(converted / DIT, allow_incomplete=True)
    assert found.component == "diffusion_transformer"
    assert TOKENIZER not in str(found.path)
    assert not isinstance(found.config, TokenizerConfig)


PARTS = {"diffusion_transformer": Block.PARTS, "text_encoder": T5Block.PARTS}


@pytest.mark.parametrize("dtype", [None, "float32"])
@pytest.mark.parametrize("component", ["diffusion_transformer", "text_encoder"])
def test_blocks_are_the_rows_of_the_stacks(converted, component, dtype):
    found = find_component(converted, component)
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


def test_stacks_that_do_not_fit_are_refused_before_anything_is_read(converted):
    found = find_component(converted, "diffusion_transformer")
    abstract = abstract_of(found)
    kernel = abstract["blocks"]["mlp"]["up"]["kernel"]
    abstract["blocks"]["mlp"]["up"]["kernel"] = jax.ShapeDtypeStruct((9, *kernel.shape[1:]), kernel.dtype)
    del abstract["time_norm"]
    shutil.rmtree(found.path / "params")
    with pytest.raises(CheckpointError, match="convert it again") as error:
        StackedParams(found, abstract)
    assert f"blocks/mlp/up/kernel: shape {kernel.shape}, expected (9, " in str(error.value)
    assert "unknown time_norm/scale" in str(error.value)


def test_a_part_that_cannot_be_read_names_the_folder(converted):
    found = find_component(converted, "diffusion_transformer")
    stacked = StackedParams(found, abstract_of(found))
    attention, mlp = PARTS["diffusion_transformer"]
    stacked.part(0, mlp)
    remove_chunk(converted)
    message = f"{DIT}/params: cannot be read.*convert it again.*blocks.mlp.up.kernel"
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        stacked.part(0, mlp)
    assert "self_attention" in stacked.part(0, attention)
    assert "time_norm" in stacked.outer()


def test_memory_that_runs_out_while_reading_is_not_called_damage(converted, monkeypatch):
    def fail(*args):
        raise MemoryError

    found = find_component(converted, "diffusion_transformer")
    stacked = StackedParams(found, abstract_of(found))
    monkeypatch.setattr("jax_interp.runtime.checkpoint.loading.read_arrays", fail)
    monkeypatch.setattr("jax_interp.runtime.checkpoint.loading.read_params", fail)
    for read in (stacked.outer, lambda: stacked.part(1, ["mlp"]), lambda: load_params(found, abstract_of(found))):
        with pytest.raises(MemoryError):
            read()
