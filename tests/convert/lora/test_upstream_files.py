"""Upstream's own files of adapters: base and adapter in one state dict, and what its trainer leaves beside it."""

import numpy as np
import pytest

from convert.lora.reading import read_adapter
from jax_interp.config import DiTConfig
from jax_interp.errors import CheckpointError
from jax_interp.models.dit import DiT
from jax_interp.nn.params import Network
from tests.train.golden_steps import load

torch = pytest.importorskip("torch")

GOLDEN = DiTConfig(
    width=128, num_heads=4, head_width=32, num_blocks=3, mlp_width=512, text_width=64, adaln_rank=16, grid=(16, 16, 16)
)
ABSTRACT = Network(lambda rngs: DiT(GOLDEN, dtype=np.float32, rngs=rngs)).abstract


def upstream_file(path, edit=lambda weights: None):
    weights = {key[2:]: torch.from_numpy(values) for key, values in load("T4_lora").items() if key.startswith("w.")}
    weights["net.blocks.block0.blocks.0.block.attn.to_q.0.weight"] = torch.zeros(128, 128)
    weights["logvar.1.weight"] = torch.zeros(1, 128)
    edit(weights)
    record = {"image": 0, "video": 5000, "iteration": 5000}
    torch.save({"model": weights, "ema": None, "trained_data_record": record}, path)
    return path


def test_adapter_and_base_in_one_file(tmp_path):
    adapter = read_adapter(upstream_file(tmp_path / "iter_000005000_model.pt"), 1.0, ABSTRACT)
    assert len(adapter.pairs) == 12  # the last block's too
    stored = load("T4_lora")["w.net.blocks.block2.blocks.1.block.attn.to_v_lora.net.0.weight"]
    assert np.array_equal(adapter.pairs["blocks/cross_attention/value/kernel", 2].down, stored.T)


def test_an_unknown_layer_is_named(tmp_path):
    def edit(weights):
        weights["net.blocks.block0.blocks.2.block.layer1_lora.net.0.weight"] = torch.zeros(8, 128)

    with pytest.raises(CheckpointError, match=r"layer1_lora.net.0.weight is not an adapter of a layer"):
        read_adapter(upstream_file(tmp_path / "model.pt", edit), 1.0, ABSTRACT)


def test_a_base_without_adapter(tmp_path):
    torch.save({"model": {"net.x": torch.zeros(2)}, "ema": None}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"net.x is not an adapter of a layer"):
        read_adapter(tmp_path / "model.pt", 1.0, ABSTRACT)
