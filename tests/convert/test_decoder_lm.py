"""Llama and Mistral checkpoints of transformers through the real conversion, against the models that wrote them."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from convert.conversion import ConversionRequest, convert_checkpoints
from convert.exporting import export_checkpoints
from convert.networks import components
from convert.networks.components import TEXT_SAFETY
from jax_interp.errors import CheckpointError
from jax_interp.models.decoder_lm import DecoderLM
from jax_interp.nn.params import Network, flatten, unflatten
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import load_params
from tests.convert.checkpoints import write_tensors
from tests.convert.trees import arrays_of
from tests.golden import relative_l2
from tests.models.decoder_peers import CONFIGS, logits_of, peer
from tests.tolerances import PEER_F32

NAME = TEXT_SAFETY.name
SIZES = [("mistral", "5GB"), ("llama 3.1", "5GB"), ("llama 2", "5GB"), ("llama 2", "20KB")]


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """The component without what a guardrail needs besides a language model."""
    plain = replace(TEXT_SAFETY, required_files=(), optional_files=(), companion=None, adapter=None)
    monkeypatch.setitem(components.COMPONENTS, NAME, plain)


@cache
def forward(name):
    network = Network(lambda rngs: DecoderLM(CONFIGS[name], dtype=jnp.float32, rngs=rngs))
    return network, jax.jit(lambda params, ids: network.bind(params)(ids))


def convert(source, target):
    request = ConversionRequest(checkpoint_dir=source, output_dir=target, components=(NAME,))
    convert_checkpoints(request)
    return find_component(target, NAME)


def save(folder, name, size="5GB"):
    peer(name)[0].save_pretrained(folder / TEXT_SAFETY.folder, max_shard_size=size)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), SIZES)
def test_logits_of_the_converted_model_equal_transformers(tmp_path, name, size, rng):
    source = save(tmp_path / "checkpoints", name, size)
    assert (source / TEXT_SAFETY.folder / "model.safetensors.index.json").exists() == (size == "20KB")
    found = convert(source, tmp_path / "converted")
    assert found.config == CONFIGS[name]
    network, run = forward(name)
    params = load_params(found, network.abstract)
    ids = rng.integers(0, 97, (1, 40)).astype(np.int32)
    expected = logits_of(peer(name)[0], ids)
    assert relative_l2(run(params, ids), expected) < PEER_F32
    leaves = dict(flatten(params))
    leaves["blocks/attention/key/kernel"] = leaves["blocks/attention/key/kernel"].at[0, 0, 0].add(0.05)
    assert relative_l2(run(unflatten(leaves), ids), expected) > PEER_F32


@pytest.mark.parametrize("name", CONFIGS)
def test_export_is_read_by_transformers_and_converts_back(tmp_path, name, rng):
    found = convert(save(tmp_path / "checkpoints", name), tmp_path / "converted")
    (exported,) = export_checkpoints(tmp_path / "converted", tmp_path / "exported", (NAME,))
    again = convert(tmp_path / "exported", tmp_path / "again")
    assert again.config == found.config
    network, _ = forward(name)
    for (path, before), (_, after) in zip(
        *(flatten(load_params(each, network.abstract)) for each in (found, again)), strict=True
    ):
        assert np.asarray(before).tobytes() == np.asarray(after).tobytes(), path
    model = transformers.AutoModelForCausalLM.from_pretrained(exported, attn_implementation="eager").eval()
    ids = rng.integers(0, 97, (1, 40))
    np.testing.assert_array_equal(logits_of(model, ids), logits_of(peer(name)[0], ids))


Q = "model.layers.1.self_attn.q_proj.weight"
FAULTS = [
    ({Q: None, "model.extra": np.zeros(3, np.float32)}, ["missing keys (1)", Q, "no rule knows (1)", "model.extra"]),
    ({Q: np.zeros((32, 23), np.float32)}, ["wrong shape", "(32, 23), expected (32, 24)"]),
    ({"lm_head.weight": None}, ["missing keys (1)", "lm_head.weight"]),
]


@pytest.mark.parametrize(("changes", "texts"), FAULTS, ids=["missing and extra", "shape", "head"])
def test_keys_that_do_not_fit_are_named(tmp_path, changes, texts):
    source = save(tmp_path / "checkpoints", "llama 2")
    tensors = {**arrays_of(peer("llama 2")[0]), "model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(4), **changes}
    path = source / TEXT_SAFETY.folder / "model.safetensors"
    path.unlink()
    write_tensors(path, {key: array for key, array in tensors.items() if array is not None})
    with pytest.raises(CheckpointError) as error:
        convert(source, tmp_path / "converted")
    assert all(text in str(error.value) for text in texts)
    assert "inv_freq" not in str(error.value)
