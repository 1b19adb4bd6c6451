"""The text guardrail's classifier through the real conversion: with its word lists, and with its adapter merged."""

import copy
import json
import shutil
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

from convert.conversion import ConversionRequest, convert_checkpoints
from convert.exporting import export_checkpoints
from convert.networks.companions import Companion
from jax_interp.errors import CheckpointError
from jax_interp.guardrails.text.blocklist import Blocklist
from jax_interp.guardrails.text.llama_guard import POLICY_FILE, LlamaGuard
from jax_interp.models.decoder_lm import DecoderLM
from jax_interp.nn.params import Network, flatten
from jax_interp.pipeline.prompt.text_tokenizer import load_tokenizer
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import load_params
from tests.golden import relative_l2
from tests.guardrails.text.llama_tokenizer import BEGIN, END, LLAMA_2, LLAMA_3, NUM_TOKENS, write_files
from tests.guardrails.text.word_lists import write_blocklist
from tests.tolerances import PEER_F32

LLAMA_3_FOLDER, LLAMA_2_FOLDER = "meta-llama/Llama-Guard-3-8B", "meta-llama/LlamaGuard-7b"
ADAPTER = "nvidia/Aegis-AI-Content-Safety-LlamaGuard-Defensive-1.0"
LISTS = "nvidia/Cosmos-Guardrail1/blocklist"
SIZES = {
    "vocab_size": NUM_TOKENS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
}
STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def twin(dtype=torch.float32, **settings):
    torch.manual_seed(3)
    model: Any = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, **settings)).eval()
    model.to(dtype)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.randn(weight.shape) * (0.3 if "norm" not in name else 0.1) + ("norm" in name))
    return model


def write_checkpoint(root, model, name, template):
    write_blocklist(root / LISTS)
    model.save_pretrained(root / name, max_shard_size="20KB")
    assert len(list((root / name).glob("*.safetensors"))) > 1
    write_files(root / name, template)
    return root


def write_adapter(root, base, rank=3, alpha=5):
    """A trained adapter of `base`, saved by PEFT itself; returns the model with the adapter still apart."""
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS, task_type="CAUSAL_LM", lora_dropout=0.05)
    with warnings.catch_warnings():
        # PEFT asks this version of transformers for something by its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        model = peft.get_peft_model(copy.deepcopy(base), config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape) * 0.5)
    model.save_pretrained(root / ADAPTER)
    change_adapter(root, base_model_name_or_path=LLAMA_2_FOLDER)
    (root / ADAPTER / "README.md").write_text(f"# Card\n{BEGIN}\nO1: Blue Bread.\n{END}\n")
    return model


def change_adapter(root, **changes):
    path = root / ADAPTER / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def convert(root, folder=None, output="converted", **options):
    folders = {"text_safety": folder} if folder else {}
    request = ConversionRequest(
        checkpoint_dir=root, output_dir=root.parent / output, folders=folders, **{"md5": "skip", **options}
    )
    convert_checkpoints(request)
    return find_component(root.parent / output, "text_safety")


def logits(found, ids):
    network = Network(lambda rngs: DecoderLM(found.config, dtype=jnp.float32, rngs=rngs))
    return np.asarray(network.bind(load_params(found, network.abstract, jnp.float32))(jnp.asarray(ids)))


def peers_logits(model, ids):
    with torch.no_grad():
        return model(torch.from_numpy(ids).long()).logits.float().numpy()


def arrays(found):
    network = Network(lambda rngs: DecoderLM(found.config, dtype=jnp.float32, rngs=rngs))
    return {path: np.asarray(leaf.astype(jnp.float32)) for path, leaf in flatten(load_params(found, network.abstract))}


@pytest.fixture
def ids():
    return np.random.default_rng(0).integers(0, NUM_TOKENS, (2, 150)).astype(np.int32)


@pytest.fixture(scope="module")
def aegis_files(tmp_path_factory):
    base = twin()
    root = write_checkpoint(tmp_path_factory.mktemp("aegis") / "checkpoints", base, LLAMA_2_FOLDER, LLAMA_2)
    return root, base, write_adapter(root, base)


@pytest.fixture
def aegis(aegis_files, tmp_path):
    """(checkpoint folder, base model, model with adapter)"""
    root, base, model = aegis_files
    return shutil.copytree(root, tmp_path / "checkpoints"), base, model


def test_llama_guard_3_comes_out_as_transformers_runs_it(tmp_path, ids):
    model: Any = twin(num_key_value_heads=2, rope_parameters=STRETCHED)
    root = write_checkpoint(tmp_path / "checkpoints", model, LLAMA_3_FOLDER, LLAMA_3)
    found = convert(root)
    assert found.path == tmp_path / "converted" / LLAMA_3_FOLDER
    oracle = peers_logits(model, ids)
    assert relative_l2(logits(found, ids), oracle) < PEER_F32
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] += 0.1
    assert relative_l2(logits(found, ids), peers_logits(model, ids)) > PEER_F32


def test_word_lists_and_chat_template_come_along(tmp_path):
    root = write_checkpoint(tmp_path / "checkpoints", twin(), LLAMA_3_FOLDER, LLAMA_3)
    (root / LISTS / "custom/.DS_Store").write_text("not a word list")
    (root / LISTS / "nltk_data/tokenizers/punkt_tab/czech").mkdir()
    (root / LISTS / "nltk_data/tokenizers/punkt_tab/czech/abbrev_types.txt").write_text("mj")
    found = convert(root)
    assert not Blocklist(found.path / "blocklist").check("a florble").allowed
    tokenizer = load_tokenizer(found.path / "tokenizer/tokenizer.json", found.config.vocab_size, "text_safety")
    guard = LlamaGuard(found.path / "tokenizer", tokenizer, found.config.context_length)
    assert "user: a robot" in guard.question("a robot")
    copied = {name for name in found.manifest["files"] if name.startswith("blocklist/")}
    assert copied == {f"blocklist/{name}" for name in LIST_FILES}
    for name in LIST_FILES:
        assert (found.path / "blocklist" / name).read_bytes() == (root / LISTS / name).read_bytes()
        assert len(found.source_sha256[f"{LISTS}/{name}"]) == 64


LIST_FILES = (
    *("custom/blocklist", "whitelist/whitelisted", "exact_match/blocked", "nltk_data/corpora/wordnet.zip"),
    *("nltk_data/tokenizers/punkt_tab/english/abbrev_types.txt",),
    *("nltk_data/tokenizers/punkt_tab/english/collocations.tab",),
    *("nltk_data/tokenizers/punkt_tab/english/ortho_context.tab",),
    *("nltk_data/tokenizers/punkt_tab/english/sent_starters.txt",),
)


@pytest.mark.parametrize("missing", ["custom/blocklist", "nltk_data/corpora/wordnet.zip"])
def test_without_word_lists_nothing_is_converted(tmp_path, missing):
    root = write_checkpoint(tmp_path / "checkpoints", twin(), LLAMA_3_FOLDER, LLAMA_3)
    (root / LISTS / missing).unlink()
    with pytest.raises(CheckpointError, match=r"Cosmos-Guardrail1/blocklist: lacks .*jax-interp download"):
        convert(root)
    assert not list((tmp_path / "converted").glob("*"))


@pytest.mark.parametrize("link", ["custom/blocklist", "exact_match", "nltk_data"])
def test_links_are_not_followed(tmp_path, link):
    root = write_checkpoint(tmp_path / "checkpoints", twin(), LLAMA_3_FOLDER, LLAMA_3)
    shutil.move(root / LISTS / link, tmp_path / "elsewhere")
    (root / LISTS / link).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=f"{link}: is a link"):
        convert(root)


def test_a_companion_beside_the_weights_is_preferred(tmp_path):
    for folder, content in (("own/lists", "own"), ("other", "other")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.txt").write_text(content)
    companion = Companion("other", "lists", ("*.txt",))
    assert companion.find(tmp_path / "own", tmp_path) == {"lists/a.txt": tmp_path / "own/lists/a.txt"}
    shutil.rmtree(tmp_path / "own/lists")
    assert companion.find(tmp_path / "own", tmp_path) == {"lists/a.txt": tmp_path / "other/a.txt"}


def test_a_changed_word_list_is_noticed_by_the_next_conversion(tmp_path):
    root = write_checkpoint(tmp_path / "checkpoints", twin(), LLAMA_3_FOLDER, LLAMA_3)
    convert(root)
    (root / LISTS / "exact_match/blocked").write_text("another")
    with pytest.raises(CheckpointError, match="exact_match/blocked has changed since"):
        convert(root)
    found = convert(root, overwrite=True)
    assert (found.path / "blocklist/exact_match/blocked").read_text() == "another"


@pytest.mark.slow
def test_export_and_conversion_give_the_same_again(tmp_path, aegis):
    root, _, _ = aegis
    found = convert(root, LLAMA_2_FOLDER)
    export_checkpoints(tmp_path / "converted", tmp_path / "exported" / "checkpoints")
    shutil.copytree(root / ADAPTER, tmp_path / "exported" / "checkpoints" / ADAPTER)  # must not be merged twice
    again = convert(tmp_path / "exported" / "checkpoints", LLAMA_2_FOLDER)
    assert arrays(again).keys() == arrays(found).keys()
    assert all(np.array_equal(array, arrays(found)[path]) for path, array in arrays(again).items())
    copied = [name for name in found.manifest["files"] if name.startswith(("blocklist/", "tokenizer/"))]
    assert f"tokenizer/{POLICY_FILE}" in copied
    assert all((again.path / name).read_bytes() == (found.path / name).read_bytes() for name in copied)


def merged(model):
    """PEFT's merge as our tree's arrays, for `np.testing`."""
    whole = copy.deepcopy(model).merge_and_unload()
    state = {key: tensor.float().numpy() for key, tensor in whole.state_dict().items()}
    names = {"query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj"}
    names = {f"attention/{ours}": theirs for ours, theirs in {**names, "out": "self_attn.o_proj"}.items()}
    names |= {f"mlp/{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")}
    return {
        f"blocks/{ours}/kernel": np.stack([state[f"model.layers.{layer}.{theirs}.weight"].T for layer in range(2)])
        for ours, theirs in names.items()
    }


def test_the_merge_equals_pefts(aegis, ids):
    root, base, model = aegis
    found = convert(root, LLAMA_2_FOLDER)
    oracle = peers_logits(model, ids)
    ours, theirs = arrays(found), merged(model)
    for path, expected in theirs.items():
        np.testing.assert_allclose(ours[path], expected, rtol=0, atol=1e-6)
    assert relative_l2(logits(found, ids), oracle) < PEER_F32
    assert relative_l2(logits(found, ids), peers_logits(base, ids)) > 0.1


def test_a_changed_adapter_weight_is_noticed(aegis):
    root, _, model = aegis
    path = root / ADAPTER / "adapter_model.safetensors"
    weights = load_file(path)
    weights["base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"][0, 0] += 0.1
    save_file(weights, path)
    ours, theirs = arrays(convert(root, LLAMA_2_FOLDER)), merged(model)
    differing = {path for path, expected in theirs.items() if np.abs(ours[path] - expected).max() > 1e-6}
    assert differing == {"blocks/mlp/up/kernel"}


@pytest.mark.slow
def test_a_bfloat16_merge_rounds_once(tmp_path):
    """PEFT adds its float32 product to bfloat16 weights in place, which rounds the sum once as well."""
    base = twin(torch.bfloat16)
    root = write_checkpoint(tmp_path / "checkpoints", base, LLAMA_2_FOLDER, LLAMA_2)
    model = write_adapter(root, base)
    assert {weight.dtype for name, weight in model.named_parameters() if "lora_" in name} == {torch.float32}
    ours, theirs = arrays(convert(root, LLAMA_2_FOLDER)), merged(model)
    sizes = {path: expected.size for path, expected in theirs.items()}
    unequal = {path: int((ours[path] != expected).sum()) for path, expected in theirs.items()}
    assert sum(unequal.values()) < 1e-3 * sum(sizes.values())  # sums near a tie, in another order
    for path, expected in theirs.items():
        np.testing.assert_allclose(ours[path], expected, rtol=2**-7)
    exact = arrays(convert(root, LLAMA_2_FOLDER, output="float32", dtype="float32"))
    rounded = {path: exact[path].astype(jnp.bfloat16).astype(np.float32) for path in theirs}
    assert all(np.array_equal(rounded[path], ours[path]) for path in theirs)


def test_the_adapter_is_recorded_and_its_policy_is_asked(aegis):
    root, _, _ = aegis
    found = convert(root, LLAMA_2_FOLDER)
    for name in ("adapter_model.safetensors", "adapter_config.json", "README.md"):
        assert len(found.source_sha256[f"{ADAPTER}/{name}"]) == 64
    tokenizer = load_tokenizer(found.path / "tokenizer/tokenizer.json", found.config.vocab_size, "text_safety")
    question = LlamaGuard(found.path / "tokenizer", tokenizer, found.config.context_length).question("a robot")
    assert f"{BEGIN}\nO1: Blue Bread.\n{END}" in question
    assert "Green Tea" not in question


def test_the_adapter_of_another_network_is_left_alone(aegis):
    root, base, _ = aegis
    (root / LLAMA_2_FOLDER).rename(root / LLAMA_3_FOLDER)
    found = convert(root)
    assert not [name for name in found.source_sha256 if name.startswith(ADAPTER)]
    weight = base.model.layers[0].mlp.up_proj.weight.detach().numpy().T
    np.testing.assert_array_equal(arrays(found)["blocks/mlp/up/kernel"][0], weight)


def test_without_the_adapter_there_is_a_warning(aegis, caplog):
    root, _, _ = aegis
    shutil.rmtree(root / ADAPTER)
    convert(root, LLAMA_2_FOLDER)
    assert "converted without its adapter" in caplog.text


@pytest.mark.parametrize("kind", ["pickle", "safetensors"])
def test_both_kinds_of_adapter_file_are_read(aegis, kind):
    root, _, model = aegis
    path = root / ADAPTER / "adapter_model.safetensors"
    if kind == "pickle":
        torch.save(load_file(path), path.with_name("adapter_model.bin"))
        path.unlink()
    ours, theirs = arrays(convert(root, LLAMA_2_FOLDER)), merged(model)
    assert all(np.abs(ours[path] - expected).max() < 1e-6 for path, expected in theirs.items())


@pytest.mark.parametrize(
    "changes",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"use_qalora": True},
        {"bias": "all"},
        {"lora_bias": True},
        {"fan_in_fan_out": True},
        {"modules_to_save": ["lm_head"]},
        {"alpha_pattern": {"q_proj": 1}},
        {"rank_pattern": {"q_proj": 1}},
        {"layer_replication": [[0, 1]]},
        {"init_lora_weights": "pissa"},
        {"peft_type": "IA3"},
        {"r": 0},
        {"lora_alpha": None},
        {"something_new": {"on": True}},
        {"base_model_name_or_path": "meta-llama/Llama-2-7b"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_not_plain_lora_is_refused_by_name(aegis, changes):
    root, _, _ = aegis
    change_adapter(root, **changes)
    with pytest.raises(CheckpointError, match=rf"adapter_config.json.*{next(iter(changes))} is"):
        convert(root, LLAMA_2_FOLDER)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, key: w.pop(f"{key}.lora_B.weight"), "q_proj.lora_B.weight is missing"),
        (lambda w, key: w.update({f"{key}.lora_magnitude_vector": torch.ones(32)}), "magnitude_vector is not a weight"),
        (lambda w, key: w.update({f"{key}.lora_A.weight": torch.ones(4, 32)}), r"q_proj has pairs \(4, 32\)"),
        (
            lambda w, key: w.update({k.replace("layers.0", "layers.7"): v.clone() for k, v in w.items()}),
            r"model.layers.7.\S+ is not in the network",
        ),
        (lambda w, key: w.clear(), "it is empty"),
    ],
    ids=["half a pair", "another kind", "another rank", "another layer", "empty"],
)
def test_an_adapter_that_does_not_fit_is_refused(aegis, change, message):
    root, _, _ = aegis
    path = root / ADAPTER / "adapter_model.safetensors"
    weights = load_file(path)
    change(weights, "base_model.model.model.layers.0.self_attn.q_proj")
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=message):
        convert(root, LLAMA_2_FOLDER)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "README.md"])
def test_an_incomplete_adapter_is_refused(aegis, name):
    root, _, _ = aegis
    (root / ADAPTER / name).unlink()
    with pytest.raises(CheckpointError, match=f"the adapter lacks .*{name}"):
        convert(root, LLAMA_2_FOLDER)
