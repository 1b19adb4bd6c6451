"""The T5 encoder against transformers' own, live, with random weights through the real conversion."""

import copy
import shutil
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import transformers
from transformers.models.t5.modeling_t5 import T5Attention as PeerAttention

from convert.conversion import ConversionRequest, convert_checkpoints
from jax_interp.models.t5 import T5Encoder, relative_buckets
from jax_interp.nn.params import Network, flatten, unflatten
from jax_interp.pipeline.prompt.text_tokenizer import load_tokenizer
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import load_params
from tests import golden
from tests.golden import relative_l2
from tests.tolerances import BF16_RATIO, NETWORK_F32

FOLDER = "google-t5/t5-11b"
TOKENIZER = golden.CHECKPOINTS / FOLDER / "tokenizer.json"


def save_whole(peer, folder):
    """Encoder, decoder and output layer in one `torch.save`, as the published checkpoint."""
    whole = transformers.T5ForConditionalGeneration(peer.config)
    whole.shared.load_state_dict(peer.shared.state_dict())
    whole.encoder.load_state_dict(peer.encoder.state_dict())
    torch.save(whole.state_dict(), folder / "pytorch_model.bin")


def save_encoder(peer, folder):
    peer.save_pretrained(folder)


def save_shards(peer, folder):
    peer.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 1


CASES: dict[str, tuple[dict[str, Any], Callable[..., None]]] = {
    # as in t5-11b, the heads together are wider than the network
    "wide heads": ({"d_model": 24, "d_kv": 16, "num_heads": 5, "d_ff": 96, "num_layers": 1}, save_whole),
    "narrow heads, deeper": ({"d_model": 48, "d_kv": 8, "num_heads": 3, "d_ff": 64, "num_layers": 4}, save_encoder),
    "fewer buckets, several files": (
        {
            "d_model": 32,
            "d_kv": 8,
            "num_heads": 4,
            "d_ff": 128,
            "num_layers": 2,
            "relative_attention_num_buckets": 16,
        },
        save_shards,
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """(float32 peer, our forward, its converted float32 parameters)"""
    sizes, save = CASES[request.param]
    torch.manual_seed(0)
    peer = transformers.T5EncoderModel(transformers.T5Config(vocab_size=120, **sizes)).eval()
    with torch.no_grad():
        for name, weight in peer.named_parameters():
            if "layer_norm" in name or "relative_attention_bias" in name:
                weight.add_(torch.randn_like(weight) * 0.3)
            weight.copy_(weight.to(torch.bfloat16))  # values that both precisions represent
    root = tmp_path_factory.mktemp("t5")
    folder = root / "checkpoints" / FOLDER
    folder.mkdir(parents=True)
    save(peer, folder)
    shutil.copyfile(TOKENIZER, folder / TOKENIZER.name)
    convert_checkpoints(ConversionRequest(checkpoint_dir=root / "checkpoints", output_dir=root / "converted"))
    found = find_component(root / "converted", "text_encoder")
    network = Network(lambda rngs: T5Encoder(found.config, dtype=jnp.float32, rngs=rngs))
    forward = jax.jit(lambda params, ids, mask: network.bind(params)(ids, mask))
    return peer, forward, load_params(found, network.abstract)


def prompts(*lengths):
    size = max(lengths)
    ids = np.random.default_rng(0).integers(0, 120, (len(lengths), size)).astype(np.int32)
    mask = (np.arange(size) < np.array(lengths)[:, None]).astype(np.int32)
    return ids * mask, mask


def valid(rows, mask):
    return np.asarray(rows, np.float32)[mask == 1]


def ours(forward, params, ids, mask):
    return valid(forward(params, ids, mask), mask)


def peers(peer, ids, mask):
    with torch.no_grad():
        out = peer(input_ids=torch.from_numpy(ids).long(), attention_mask=torch.from_numpy(mask)).last_hidden_state
    return valid(out.float().numpy(), mask)


@pytest.mark.parametrize("lengths", [(1,), (9, 4), (300, 150, 37)])
def test_float32(case, lengths):
    peer, forward, params = case
    inputs = prompts(*lengths)
    assert relative_l2(ours(forward, params, *inputs), peers(peer, *inputs)) < NETWORK_F32


def test_bfloat16_is_as_accurate_as_pytorchs(case):
    peer, forward, params = case
    inputs = prompts(200, 60)
    oracle = peers(peer, *inputs)
    theirs = peers(copy.deepcopy(peer).to(torch.bfloat16), *inputs)
    in_bfloat16 = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    assert relative_l2(ours(forward, in_bfloat16, *inputs), oracle) < BF16_RATIO * relative_l2(theirs, oracle)


@pytest.mark.parametrize("path", ["embedding", "relative_bias", "blocks/attention/out/kernel", "final_norm/scale"])
def test_a_changed_weight_is_noticed(case, path):
    peer, forward, params = case
    leaves = dict(flatten(params))
    leaves[path] = leaves[path].at[(0,) * leaves[path].ndim].add(0.1)
    inputs = prompts(300, 150, 37)
    assert relative_l2(ours(forward, unflatten(leaves), *inputs), peers(peer, *inputs)) > NETWORK_F32


@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (32, 256), (16, 64), (64, 128), (8, 20), (4, 9)])
def test_every_offset_is_in_the_peers_bucket(num_buckets, max_distance):
    offsets = np.arange(-1000, 1001)
    theirs = PeerAttention._relative_position_bucket(torch.from_numpy(offsets), True, num_buckets, max_distance)
    mine = relative_buckets(offsets, num_buckets=num_buckets, max_distance=max_distance)
    np.testing.assert_array_equal(mine, theirs.numpy())


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a  b\n\tc",
        "<pad>",
        "</s></s>",
        "<extra_id_7>x",
        "Ǆ ﬁ ½ １２",
        "東京 🎬",
        "e\u0301 vs \u00e9",
        "a\u00a0b\u200bc",
    ],
)
def test_ids_equal_those_of_the_peers_tokenizer(text):
    package: Any = transformers  # its types do not have the name
    peer = package.T5TokenizerFast.from_pretrained(TOKENIZER.parent, local_files_only=True)
    assert load_tokenizer(TOKENIZER, 400, "text_encoder")(text)["input_ids"] == peer(text)["input_ids"]
