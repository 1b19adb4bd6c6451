"""Networks in 8 bits: quantised as they are read, stored so, and what is wrong with stored ones."""

import json
import shutil
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.errors import CheckpointError, UsageError
from jax_interp.nn.params import flatten, unflatten
from jax_interp.nn.quantization import quantize_kernel
from jax_interp.pipeline.prompt.text import PromptNetwork
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.runtime.checkpoint.adapters import merge
from jax_interp.runtime.checkpoint.converted import open_component
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import StackedParams
from jax_interp.runtime.checkpoint.param_files import read_arrays, write_params
from tests.convert.checkpoints import DIT, T5, TOKENIZER
from tests.runtime.checkpoint.spoiling import rewrite
from tests.runtime.checkpoint.test_adapters import PATH, adapter

NETWORKS = {"diffusion_transformer": Denoiser, "text_encoder": PromptNetwork}
KERNEL, SCALE = "blocks/mlp/up/int8_kernel", "blocks/mlp/up/scale"


def blocks_of(found, component):
    """Every array of every block, as it is read in 8 bits."""
    network = NETWORKS[component].structure(found.config, "bfloat16", "int8")
    stored = StackedParams(found, network.abstract, jnp.bfloat16)
    names = {name for part in network.parts for name in part}
    return [dict(flatten(stored.part(block, names))) for block in range(network.num_blocks)]


@pytest.mark.parametrize("component", NETWORKS)
def test_quantised_once_is_what_quantising_at_load_gives(converted, quantized, component):
    at_load = blocks_of(find_component(converted, component).quantized("int8"), component)
    stored = blocks_of(find_component(quantized, component), component)
    for ours, theirs in zip(at_load, stored, strict=True):
        assert ours.keys() == theirs.keys()
        for path in ours:
            assert ours[path].dtype == theirs[path].dtype
            np.testing.assert_array_equal(ours[path], theirs[path])
    dtypes = {path.rsplit("/")[-1]: str(array.dtype) for path, array in stored[0].items() if "norm" not in path}
    assert dtypes["int8_kernel"] == "int8"
    assert dtypes["scale"] == "float32"
    assert dtypes.get("kernel", "bfloat16") == "bfloat16"


def test_a_joined_layer_is_made_of_its_three(converted):
    found = find_component(converted, "diffusion_transformer")
    block = blocks_of(found.quantized("int8"), "diffusion_transformer")[1]
    for part, name in enumerate(("query", "key", "value")):
        path = f"blocks/self_attention/{name}/kernel"
        weight = read_arrays(found.path / "params", {path: np.dtype("float32")}, 1)[path]
        integers, scale = quantize_kernel(weight)
        np.testing.assert_array_equal(block["self_attention/qkv/int8_kernel"][part], integers)
        np.testing.assert_array_equal(block["self_attention/qkv/scale"][part], scale)


@pytest.mark.parametrize("component", NETWORKS)
def test_rotated_once_is_what_rotating_at_load_gives(converted, rotated_folder, component):
    at_load = blocks_of(find_component(converted, component).quantized("int8-rotated"), component)
    stored = blocks_of(find_component(rotated_folder, component), component)
    plain = blocks_of(find_component(converted, component).quantized("int8"), component)
    for ours, theirs, others in zip(at_load, stored, plain, strict=True):
        assert ours.keys() == theirs.keys() == others.keys()
        for path in ours:
            np.testing.assert_array_equal(ours[path], theirs[path])
            assert ours[path].shape == others[path].shape
            quantised = path.endswith("int8_kernel") or path.replace("/scale", "/int8_kernel") in ours.keys() - {path}
            assert (ours[path] != others[path]).any() == quantised, path


def test_groups_are_those_of_the_layers(converted):
    """Of 4 heads with 32 channels: the output of attention has groups of a head."""
    found = find_component(converted, "diffusion_transformer")
    block = blocks_of(found.quantized("int8-rotated"), "diffusion_transformer")[1]
    for layer, group in (("self_attention/out", 32), ("cross_attention/query", 128), ("mlp/down", 128)):
        path = f"blocks/{layer}/kernel"
        weight = read_arrays(found.path / "params", {path: np.dtype("float32")}, 1)[path]
        np.testing.assert_array_equal(block[f"{layer}/int8_kernel"], quantize_kernel(weight, group=group)[0])


def test_half_the_bytes_are_stored(converted, quantized):
    sizes = [sum(open_component(folder / DIT).manifest["files"].values()) for folder in (converted, quantized)]
    assert sizes[1] < 0.75 * sizes[0]  # of this small network much is no large product
    assert (
        open_component(quantized / TOKENIZER).manifest["params"]
        == open_component(converted / TOKENIZER).manifest["params"]
    )


def test_the_description_says_it(quantized):
    config, manifest = (json.loads((quantized / DIT / f"{name}.json").read_text()) for name in ("config", "manifest"))
    assert (config["format_version"], config["quantization"], config["dtype"]) == (2, "int8", "int8")
    assert (manifest["format_version"], manifest["settings"]["quantization"]) == (2, "int8")
    entry = manifest["params"]["blocks/self_attention/qkv/int8_kernel"]
    assert entry["op"] == "transpose, int8"
    assert entry["source"].count(" + ") == 2
    tokenizer = json.loads((quantized / TOKENIZER / "config.json").read_text())
    assert tokenizer["format_version"] == 1
    assert "quantization" not in tokenizer


@pytest.mark.parametrize(("quantization", "group"), [("int8", 1), ("int8-rotated", 128)])
def test_adapters_are_merged_before_the_weights_are_quantised(converted, quantization, group):
    found = find_component(converted, "diffusion_transformer")
    style = adapter(strength=0.5)
    blocks = blocks_of(replace(found.quantized(quantization), adapters=(style,)), "diffusion_transformer")
    for index in (0, 1):  # block 1 has no adapter
        weight = read_arrays(found.path / "params", {PATH: np.dtype("float32")}, index)[PATH]
        integers, _ = quantize_kernel(merge(weight, PATH, index, [style], np.float32), group=group)
        np.testing.assert_array_equal(blocks[index]["self_attention/qkv/int8_kernel"][0], integers)


def test_adapters_of_a_stored_network_are_refused(quantized, rotated_folder):
    for folder, stored in ((quantized, "int8"), (rotated_folder, "int8-rotated")):
        found = replace(find_component(folder, "diffusion_transformer"), adapters=(adapter(),))
        with pytest.raises(UsageError, match=rf"--lora: .*stored in {stored},.*pass --quantization {stored}:"):
            Denoiser(found, "bfloat16")


def test_what_is_stored_in_8_bits_cannot_be_had_in_full(quantized):
    found = find_component(quantized, "diffusion_transformer")
    assert found.quantization == found.quantized(None).quantization == found.quantized("int8").quantization == "int8"
    with pytest.raises(UsageError, match="stored in int8, from which the weights cannot be restored; leave out"):
        found.quantized("none")
    assert find_component(quantized, "tokenizer").quantized("none").quantization == "none"
    assert find_component(quantized, "tokenizer").quantized("int8").quantization == "none"


def test_a_network_whose_weights_are_not_finite_cannot_be_quantised(copied):
    change_array(copied / DIT, "blocks/mlp/down/kernel", lambda array: array * np.asarray(np.nan, array.dtype))
    with pytest.raises(CheckpointError, match=r"cannot be quantised .*mlp/down/kernel.*leave out --quantization"):
        blocks_of(find_component(copied, "diffusion_transformer").quantized("int8"), "diffusion_transformer")


# Stored networks that are damaged, or that somebody made up.


def change_array(folder, path, change):
    """Write `change(array)` in place of an array of a converted folder, so that the manifest agrees with it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    dtypes = {name: jnp.dtype(entry["dtype"]) for name, entry in manifest["params"].items()}
    arrays = read_arrays(folder / "params", dtypes)
    arrays[path] = np.asarray(change(arrays[path]))
    shutil.rmtree(folder / "params")
    write_params(folder / "params", unflatten(arrays))
    manifest["params"][path] |= {"shape": list(arrays[path].shape), "dtype": arrays[path].dtype.name}
    files = (file for file in folder.rglob("*") if file.is_file() and file.parent != folder)
    manifest["files"] = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def read_all(folder):
    return blocks_of(find_component(folder, "diffusion_transformer"), "diffusion_transformer")


def at(value):
    def change(array):
        array.flat[1] = value
        return array

    return change


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.01, 0.0])
def test_scales_that_cannot_be(spoilt, value):
    change_array(spoilt / DIT, SCALE, at(value))
    with pytest.raises(CheckpointError, match="damaged, blocks/mlp/up/scale hold scales that are not finite and above"):
        read_all(spoilt)


ARRAYS = {
    "integers as numbers": (KERNEL, lambda array: array.astype(np.float32), "up/int8_kernel is float32, expected int8"),
    "other integers": (KERNEL, lambda array: array.view(np.uint8), "up/int8_kernel is uint8, expected int8"),
    "scales in half": (SCALE, lambda array: array.astype(np.float16), "up/scale is float16, expected float32"),
    "integers as scales": (SCALE, lambda array: array.astype(np.int8), "up/scale is int8, expected float32"),
    "a transposed weight": (KERNEL, lambda array: array.swapaxes(1, 2), r"up/int8_kernel: shape \(3, 128, 512\), exp"),
    "too few scales": (SCALE, lambda array: array[:, 1:], r"up/scale: shape \(3, 511\), expected \(3, 512\)"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_cannot_be(spoilt, case):
    path, change, text = ARRAYS[case]
    change_array(spoilt / DIT, path, change)
    with pytest.raises(CheckpointError, match=text):
        read_all(spoilt)


def without_scale(folder):
    rewrite(folder / "manifest.json", lambda values: values["params"].pop(SCALE))


def says_nothing(folder):
    rewrite(folder / "config.json", lambda values: values.pop("quantization"))


def says_another(folder):
    rewrite(folder / "config.json", lambda values: values.update(quantization="int2"))


def pretends_to_be_older(folder):
    rewrite(folder / "config.json", lambda values: values.update(format_version=1))


def manifest_says_nothing(folder):
    rewrite(folder / "manifest.json", lambda values: values["settings"].pop("quantization"))


def manifest_is_older(folder):
    rewrite(folder / "manifest.json", lambda values: values.update(format_version=1))


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (without_scale, "missing blocks/mlp/up/scale"),
        (says_nothing, "format_version is 2, but quantization is None"),
        (says_another, "quantization is 'int2', expected 'int8' or 'int8-rotated' or 'int8-s"),
        (pretends_to_be_older, "format_version is 1, but quantization is 'int8'"),
        (manifest_says_nothing, "manifest.json: damaged, it is of format 2 and quantization None, but config.json"),
        (manifest_is_older, "manifest.json: damaged, it is of format 1 and quantization int8, but config.json of 2"),
    ],
)
def test_descriptions_that_do_not_agree(spoilt, damage, text):
    damage(spoilt / DIT)
    with pytest.raises(CheckpointError, match=text):
        read_all(spoilt)


def test_a_network_that_is_never_in_8_bits(quantized, tmp_path):
    folder = shutil.copytree(quantized / TOKENIZER, tmp_path / TOKENIZER)
    rewrite(folder / "config.json", lambda values: values.update(format_version=2, quantization="int8"))
    rewrite(
        folder / "manifest.json",
        lambda values: (values.update(format_version=2), values["settings"].update(quantization="int8")),
    )
    with pytest.raises(CheckpointError, match="quantization is 'int8', in which no tokenizer is stored"):
        find_component(tmp_path, "tokenizer")


def test_an_unrotated_network_that_pretends_to_be_rotated(spoilt):
    """The description may be changed alone, which the manifest gives away."""
    rewrite(spoilt / DIT / "config.json", lambda values: values.update(quantization="int8-rotated"))
    with pytest.raises(CheckpointError, match=r"of format 2 and quantization int8, but config.json of 2 and int8-rot"):
        read_all(spoilt)


def test_a_full_network_that_pretends_to_be_in_8_bits(copied):
    change = {"format_version": 2, "quantization": "int8"}
    rewrite(copied / T5 / "config.json", lambda values: values.update(change))
    rewrite(
        copied / T5 / "manifest.json",
        lambda values: (values.update(format_version=2), values["settings"].update(quantization="int8")),
    )
    with pytest.raises(CheckpointError, match="missing blocks/attention/out/int8_kernel"):
        PromptNetwork(find_component(copied, "text_encoder"), "float32")
