"""The transformer against diffusers' independent one, live, with random weights through the real conversion."""

import copy
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch

from benchmarks import dit_peer
from convert.conversion import ConversionRequest, convert_checkpoints
from jax_interp.config import DiTConfig
from jax_interp.parity.peers import transformer as diffusers_dit
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.runtime.checkpoint.finding import find_component
from tests.changed_weights import change_weight, nudge
from tests.golden import relative_l2
from tests.tolerances import BF16_RATIO, PEER_F32

TINY = DiTConfig(
    width=64, num_heads=2, head_width=32, num_blocks=2, mlp_width=256, text_width=48, adaln_rank=8, grid=(8, 12, 10)
)
CONFIGS = {
    "tiny": TINY,
    "three heads of 42, deeper": DiTConfig(
        width=126, num_heads=3, head_width=42, num_blocks=4, mlp_width=252, text_width=32, adaln_rank=16, grid=(4, 8, 8)
    ),
    "one block": DiTConfig(
        width=32, num_heads=1, head_width=32, num_blocks=1, mlp_width=128, text_width=64, adaln_rank=4, grid=(8, 12, 10)
    ),
}


@pytest.fixture(scope="module", params=CONFIGS)
def case(request, tmp_path_factory):
    """(config, float32 peer, converted folder)"""
    return written(CONFIGS[request.param], tmp_path_factory.mktemp("dit"), "Cosmos-Predict1-7B-WorldInterpolator")


def written(config, root, name):
    """(config, float32 peer, the folder in which its weights are converted as the network `name`)"""
    torch.manual_seed(0)
    peer: Any = diffusers_dit.build(config).eval()
    dit_peer.randomize(peer, seed=1)
    peer.to(torch.bfloat16).to(torch.float32)  # weights that both precisions represent
    folder = root / "checkpoints" / name
    folder.mkdir(parents=True)
    state = {name: tensor.to(torch.bfloat16) for name, tensor in dit_peer.upstream_state_dict(peer).items()}
    torch.save(state, folder / "model.pt")
    convert_checkpoints(ConversionRequest(checkpoint_dir=root / "checkpoints", output_dir=root / "converted"))
    return config, peer, root / "converted"


def inputs(config, batch, grid, num_tokens):
    generator = np.random.default_rng(0)
    shape = (batch, grid[0], 2 * grid[1], 2 * grid[2])
    arrays = {
        "x": generator.standard_normal((*shape, 16)),
        "c_noise": generator.standard_normal(batch),
        "text": generator.standard_normal((batch, num_tokens, config.text_width)),
        "mask": generator.integers(0, 2, (*shape, 1)),
        "padding_mask": generator.integers(0, 2, (*shape, 1)),
    }
    return {name: np.asarray(jnp.asarray(value, jnp.bfloat16), np.float32) for name, value in arrays.items()}


def ours(folder, precision, arrays, fps, change=None):
    denoiser = Denoiser(find_component(folder, "diffusion_transformer"), precision, rotary_precision="float32")
    if change is not None:
        change_weight(denoiser, change, lambda array: nudge(array, 0.1))
    return np.asarray(denoiser.net(*map(jnp.asarray, arrays.values()), fps=fps), np.float32)


def peers(peer, arrays, fps):
    return diffusers_dit.forward(peer, **{name: torch.from_numpy(x) for name, x in arrays.items()}, fps=fps).numpy()


@pytest.mark.parametrize(
    ("batch", "grid", "num_tokens", "fps"), [(1, (3, 2, 3), 7, 24), (2, (4, 5, 1), 20, 30), (1, (1, 8, 8), 5, 12)]
)
def test_float32(case, batch, grid, num_tokens, fps):
    config, peer, folder = case
    arrays = inputs(config, batch, grid, num_tokens)
    assert relative_l2(ours(folder, "float32", arrays, fps), peers(peer, arrays, fps)) < PEER_F32


@pytest.mark.parametrize(("size", "ratio"), [("7B", (2.0, 1.0, 1.0)), ("14B", (2.0, 2.0, 2.0))])
def test_121_frames_of_video2world(tmp_path, size, ratio):
    """16 latent frames, with the rotary ratios that the conversion gives each size."""
    config = replace(TINY, grid=(16, 8, 8), rotary_ratio=ratio)
    config, peer, folder = written(config, tmp_path, f"Cosmos-Predict1-{size}-Video2World")
    arrays = inputs(config, 1, (16, 3, 4), 512)
    assert relative_l2(ours(folder, "float32", arrays, 24), peers(peer, arrays, 24)) < PEER_F32


def test_bfloat16_is_as_accurate_as_pytorchs(case):
    config, peer, folder = case
    arrays = inputs(config, 1, (3, 4, 6), 16)
    oracle = peers(peer, arrays, 24)
    theirs = peers(copy.deepcopy(peer).to(torch.bfloat16), arrays, 24)
    assert relative_l2(ours(folder, "bfloat16", arrays, 24), oracle) < BF16_RATIO * relative_l2(theirs, oracle)


@pytest.mark.parametrize("path", ["blocks/self_attention/key/kernel", "time_out/kernel", "final_modulation/up/kernel"])
def test_a_changed_weight_is_noticed(case, path):
    config, peer, folder = case
    arrays = inputs(config, 1, (3, 2, 3), 7)
    error = relative_l2(ours(folder, "float32", arrays, 24, change=path), peers(peer, arrays, 24))
    assert error > PEER_F32
