"""Adapters against PEFT on diffusers' network: its files read, its merge met, and ours read by it."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.config import Precision

pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("diffusers")

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from benchmarks import dit_peer
from convert.conversion import ConversionRequest, convert_checkpoints
from convert.lora.keys import DIFFUSERS_LAYERS
from convert.lora.reading import read_adapter
from convert.lora.writing import write_adapter
from jax_interp.config import DiTConfig
from jax_interp.nn.params import flatten, unflatten
from jax_interp.parity.peers import transformer as diffusers_dit
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.train.settings import LoraSettings, TrainSettings
from jax_interp.train.steps.lora import split_adapter
from jax_interp.train.steps.step import network_of
from tests.golden import relative_l2
from tests.tolerances import PEER_F32

CONFIG = DiTConfig(
    width=64, num_heads=2, head_width=32, num_blocks=2, mlp_width=256, text_width=48, adaln_rank=8, grid=(8, 12, 10)
)
TARGETS = {"q and v": ["attn1.to_q", "attn1.to_v", "attn2.to_q", "attn2.to_v"], "all": [*DIFFUSERS_LAYERS.values()]}


@pytest.fixture(scope="module")
def converted_twin(tmp_path_factory):
    """Folder of the converted network whose peer `twin` makes anew."""
    root = tmp_path_factory.mktemp("dit")
    folder = root / "checkpoints" / "Cosmos-Predict1-7B-WorldInterpolator"
    folder.mkdir(parents=True)
    torch.save(dit_peer.upstream_state_dict(twin()), folder / "model.pt")
    convert_checkpoints(ConversionRequest(checkpoint_dir=root / "checkpoints", output_dir=root / "converted"))
    return root / "converted"


def twin():
    torch.manual_seed(0)
    peer = diffusers_dit.build(CONFIG).eval()
    dit_peer.randomize(peer, seed=1)
    return peer.float()


def adapted_twin(targets, alpha):
    """PEFT's model with random weights in both matrices of every adapter."""
    model = get_peft_model(twin(), LoraConfig(r=3, lora_alpha=alpha, target_modules=targets))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.2, generator=generator)
    return model.eval()


def inputs():
    draw = np.random.default_rng(0)
    shape = (1, 3, 4, 6)
    return {
        "x": draw.standard_normal((*shape, 16)).astype(np.float32),
        "c_noise": draw.standard_normal(1).astype(np.float32),
        "text": draw.standard_normal((1, 7, 48)).astype(np.float32),
        "mask": draw.integers(0, 2, (*shape, 1)).astype(np.float32),
        "padding_mask": np.zeros((*shape, 1), np.float32),
    }


def theirs(model):
    arrays = {name: torch.from_numpy(values) for name, values in inputs().items()}
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return diffusers_dit.forward(base, **arrays, fps=24).numpy()


def ours(folder, path, strength=1.0, precision: Precision = "float32"):
    found = find_component(folder, "diffusion_transformer")
    adapters = () if path is None else (adapter_of(folder, path, strength),)
    denoiser = Denoiser(replace(found, adapters=adapters), precision, rotary_precision="float32")
    return np.asarray(denoiser.net(*map(jnp.asarray, inputs().values()), fps=24), np.float32)


def adapter_of(folder, path, strength=1.0):
    config = find_component(folder, "diffusion_transformer").config
    return read_adapter(path, strength, network_of(config, TrainSettings()).abstract)


@pytest.mark.parametrize("targets", TARGETS)
def test_merged_as_peft_merges(converted_twin, tmp_path, targets):
    model = adapted_twin(TARGETS[targets], alpha=6)
    model.save_pretrained(tmp_path)
    beside = theirs(model)
    base = ours(converted_twin, None)
    assert relative_l2(base, beside) > 0.01
    merged = ours(converted_twin, tmp_path)
    assert relative_l2(merged, beside) < PEER_F32
    assert relative_l2(merged, theirs(model.merge_and_unload())) < PEER_F32
    assert relative_l2(ours(converted_twin, tmp_path, strength=0.9), beside) > PEER_F32
    assert np.array_equal(ours(converted_twin, tmp_path, strength=0.0), base)


def test_a_strength_is_a_smaller_alpha(converted_twin, tmp_path):
    for alpha in (6, 3):
        adapted_twin(TARGETS["q and v"], alpha).save_pretrained(tmp_path / str(alpha))
    half, small = ours(converted_twin, tmp_path / "6", 0.5), ours(converted_twin, tmp_path / "3")
    assert relative_l2(half, small) < 1e-6


def test_a_file_alone_as_diffusers_saves_it(converted_twin, tmp_path):
    """Its settings are within the file, its names have another prefix."""
    model = twin()
    model.add_adapter(LoraConfig(r=3, lora_alpha=6, target_modules=TARGETS["all"], init_lora_weights=False))
    model.save_lora_adapter(tmp_path, weight_name="style.safetensors")
    assert relative_l2(ours(converted_twin, tmp_path / "style.safetensors"), theirs(model.eval())) < PEER_F32


@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_peft_reads_what_we_write(converted_twin, tmp_path, scale):
    settings = TrainSettings(dtype="float32", lora=LoraSettings(rank=4, scale=scale, targets=("q", "out", "mlp")))
    adapter, _ = split_adapter(network_of(CONFIG, settings).random_params(0))
    draw = np.random.default_rng(1)
    leaves = {path: 0.1 * draw.standard_normal(leaf.shape).astype(np.float32) for path, leaf in flatten(adapter)}
    write_adapter(tmp_path, unflatten(leaves), rank=4, scale=scale)
    model = PeftModel.from_pretrained(twin(), str(tmp_path)).eval()
    named = {name.replace(".default", ""): weight for name, weight in model.named_parameters() if "lora_" in name}
    assert len(named) == 2 * 2 * 6
    down = named["base_model.model.transformer_blocks.1.attn2.to_out.0.lora_A.weight"].detach().numpy()
    assert np.array_equal(down, leaves["blocks/cross_attention/out/lora_down"][1].T)
    assert relative_l2(ours(converted_twin, tmp_path), theirs(model)) < PEER_F32
    assert relative_l2(ours(converted_twin, None), theirs(model)) > 0.01
    assert len(adapter_of(converted_twin, tmp_path).pairs) == 12


@pytest.mark.slow
def test_a_fresh_adapter_changes_no_bit(converted_twin, tmp_path):
    settings = TrainSettings(lora=LoraSettings(rank=4, targets=("q", "k", "v", "out", "mlp")))
    adapter, _ = split_adapter(network_of(CONFIG, settings).random_params(0))
    write_adapter(tmp_path, adapter, rank=4, scale=1.0)
    for precision in ("float32", "bfloat16"):
        without, fresh = (ours(converted_twin, path, precision=precision) for path in (None, tmp_path))
        assert np.array_equal(without, fresh)
