"""Adapter files that are read, and those that are refused with every fault named."""

import json
import logging
import shutil

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from convert.lora.keys import peft_key
from convert.lora.reading import METADATA, SETTINGS, WEIGHTS, read_adapter, read_adapters
from convert.lora.writing import write_adapter
from jax_interp.config import DiTConfig
from jax_interp.errors import CheckpointError
from jax_interp.models.dit import DiT
from jax_interp.nn.params import Network, flatten, unflatten
from jax_interp.train.settings import LoraSettings, TrainSettings
from jax_interp.train.steps.lora import split_adapter
from jax_interp.train.steps.step import network_of

CONFIG = DiTConfig(
    width=24, num_heads=2, head_width=12, num_blocks=2, mlp_width=32, text_width=8, adaln_rank=4, grid=(3, 4, 4)
)
ABSTRACT = Network(lambda rngs: DiT(CONFIG, dtype=np.float32, rngs=rngs)).abstract


@pytest.fixture
def folder(tmp_path):
    """An adapter of rank 2 and scale 3 with random weights."""
    settings = TrainSettings(dtype="float32", lora=LoraSettings(rank=2, scale=3.0))
    adapter, _ = split_adapter(network_of(CONFIG, settings).abstract)
    draw = np.random.default_rng(0)
    leaves = {path: draw.standard_normal(leaf.shape).astype(np.float32) for path, leaf in flatten(adapter)}
    write_adapter(tmp_path, unflatten(leaves), rank=2, scale=3.0)
    np.savez(tmp_path / "leaves.npz", **{path.replace("/", "."): leaf for path, leaf in leaves.items()})
    return tmp_path


def change(folder, edit):
    """Rewrite the file with `edit(tensors)` applied, by the safetensors package."""
    tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    edit(tensors)
    (folder / WEIGHTS).unlink()
    safetensors.numpy.save_file(tensors, folder / WEIGHTS)


def refused(path, *parts):
    with pytest.raises(CheckpointError) as caught:
        read_adapter(path, 1.0, ABSTRACT)
    for part in (str(path.name), *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize("alone", [False, True], ids=["folder", "file alone"])
def test_what_was_written_is_read(folder, alone):
    path = folder
    if alone:
        path = folder / "style.safetensors"
        shutil.copy(folder / WEIGHTS, path)
    adapter = read_adapter(path, 0.5, ABSTRACT)
    leaves = np.load(folder / "leaves.npz")
    pair = adapter.pairs["blocks/cross_attention/value/kernel", 1]
    assert np.array_equal(pair.down, leaves["blocks.cross_attention.value.lora_down"][1])
    assert np.allclose(pair.up, 3 * leaves["blocks.cross_attention.value.lora_up"][1], rtol=1e-6)
    assert len(adapter.pairs) == 8
    assert adapter.facts["layers"] == 8
    assert adapter.facts["strength"] == 0.5
    assert len(adapter.sha256) == 64


def test_bfloat16_and_names_without_prefixes(folder):
    path = folder / "plain.safetensors"
    stored = safetensors.numpy.load_file(folder / WEIGHTS)
    rounded = {key.removeprefix("base_model.model."): value.astype(ml_dtypes.bfloat16) for key, value in stored.items()}
    safetensors.numpy.save_file(rounded, path)
    pair = read_adapter(path, 1.0, ABSTRACT).pairs["blocks/self_attention/query/kernel", 0]
    key = peft_key("self_attention/query", 0, "up").removeprefix("base_model.model.")
    assert np.array_equal(pair.up, rounded[key].astype(np.float32).T)  # no settings: a scale of 1


def test_a_block_without_adapter_is_reported(folder, caplog):
    caplog.set_level(logging.INFO, "jax_interp")
    gone = [peft_key("self_attention/value", 1, side) for side in ("down", "up")]
    change(folder, lambda tensors: [tensors.pop(key) for key in gone])
    assert len(read_adapter(folder, 1.0, ABSTRACT).pairs) == 7
    assert "an adapter of 7 layers (4 a block)" in caplog.text
    assert "leaves 1 layers of some blocks as they are" in caplog.text


def test_shapes_of_another_network(folder):
    key = peft_key("self_attention/query", 0, "down")
    change(folder, lambda tensors: tensors.update({key: np.zeros((2, 25), np.float32)}))
    refused(folder, "not an adapter of this network", "block 0, self_attention/query", "(2, 25)", "(rank, 24)")


def test_more_blocks_than_the_network_has(folder):
    change(
        folder,
        lambda tensors: tensors.update(
            {peft_key("mlp/up", 2, "down"): np.zeros((2, 24), np.float32),
             peft_key("mlp/up", 2, "up"): np.zeros((32, 2), np.float32)}
        ),
    )  # fmt: skip
    refused(folder, "block 2, mlp/up: the network has 2 blocks")


def test_unknown_names_and_missing_halves(folder):
    def edit(tensors):
        tensors["base_model.model.transformer_blocks.0.attn1.to_gate.lora_A.weight"] = np.zeros((2, 24), np.float32)
        del tensors[peft_key("self_attention/value", 1, "up")]

    change(folder, edit)
    refused(folder, "attn1.to_gate.lora_A.weight is not an adapter of a layer", "block 1, self_attention/value lacks")


def test_values_that_are_not_numbers(folder):
    key = peft_key("self_attention/query", 0, "up")
    change(folder, lambda tensors: tensors.update({key: np.full((24, 2), np.nan, np.float32)}))
    with pytest.raises(CheckpointError, match="holds values that are not numbers"):
        read_adapter(folder, 1.0, ABSTRACT)


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_damaged_file(folder, size):
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=WEIGHTS):
        read_adapter(folder, 1.0, ABSTRACT)


@pytest.mark.parametrize("entry", [{"use_dora": True}, {"peft_type": "IA3"}, {"bias": "all"}, {"lora_alpha": -1}])
def test_what_is_not_plain_lora(folder, entry):
    settings = json.loads((folder / SETTINGS).read_text()) | entry
    (folder / SETTINGS).write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=next(iter(entry))):
        read_adapter(folder, 1.0, ABSTRACT)


@pytest.mark.parametrize("text", ["[1]", "{", '{"peft_type": "LORA"}'])
def test_damaged_settings_within_the_file(folder, text):
    stored = safetensors.numpy.load_file(folder / WEIGHTS)
    path = folder / "style.safetensors"
    safetensors.numpy.save_file(stored, path, metadata={METADATA: text})
    with pytest.raises(CheckpointError, match=r"style.safetensors"):
        read_adapter(path, 1.0, ABSTRACT)


def test_no_such_file(tmp_path):
    with pytest.raises(CheckpointError, match="nothing"):
        read_adapter(tmp_path / "nothing.safetensors", 1.0, ABSTRACT)


def test_without_adapters_no_network_is_looked_for(tmp_path):
    assert read_adapters([], tmp_path) == []
