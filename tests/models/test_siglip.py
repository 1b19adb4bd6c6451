"""SigLIP's picture encoder against transformers' own, live, with random weights through the real conversion."""

import copy
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from convert.conversion import ConversionRequest, convert_checkpoints
from jax_interp.config import SIGLIP_SO400M, SiglipVisionConfig
from jax_interp.models.safety_head import VideoSafety
from jax_interp.models.siglip import SiglipVision
from jax_interp.nn.params import Network, StackedNetwork, flatten, unflatten
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import load_params
from tests.golden import relative_l2
from tests.models import video_peers
from tests.tolerances import BF16_RATIO, NETWORK_F32, PEER_F32

CASES = {"leftover pixels": {}, "whole patches": {"width": 32, "layers": 2, "heads": 2, "patch": 7, "image": 28}}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """(peer, network of the encoder alone, its converted float32 parameters)"""
    sizes = CASES[request.param]
    peer = video_peers.siglip(**sizes)
    root = tmp_path_factory.mktemp("siglip")
    head = video_peers.safety_filter(width=sizes.get("width", 24))
    video_peers.write_video_safety(root / "checkpoints", peer, head)
    convert_checkpoints(ConversionRequest(checkpoint_dir=root / "checkpoints", output_dir=root / "converted"))
    found = find_component(root / "converted", "video_safety")
    whole = Network(lambda rngs: VideoSafety(found.config, dtype=jnp.float32, rngs=rngs))
    network = StackedNetwork(lambda rngs: SiglipVision(found.config.tower, dtype=jnp.float32, rngs=rngs))
    params = load_params(found, whole.abstract, jnp.float32)
    return peer, network, {name: value for name, value in params.items() if name != "head"}


def pictures(peer, count=3):
    side = peer.config.vision_config.image_size
    return np.random.default_rng(0).uniform(-1, 1, (count, side, side, 3)).astype(np.float32)


def expected(peer, pixels, dtype=torch.float32):
    with torch.no_grad():
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(dtype)
        return peer.vision_model(x).pooler_output.float().numpy()


@cache
def forward(network):
    return jax.jit(lambda params, x: network.bind(params)(x))


def run(network, params, pixels):
    return np.asarray(forward(network)(params, pixels))


def test_vectors_equal_the_peers(case):
    peer, network, params = case
    pixels = pictures(peer)
    assert relative_l2(run(network, params, pixels), expected(peer, pixels)) < PEER_F32


@pytest.mark.parametrize("path", ["positions", "pooling/probe", "blocks/attention/out/bias", "pooling/mlp/down/kernel"])
def test_one_changed_weight_is_noticed(case, path):
    peer, network, params = case
    leaves = dict(flatten(params))
    leaves[path] = leaves[path].at[(0,) * leaves[path].ndim].add(0.5)
    pixels = pictures(peer)
    assert relative_l2(run(network, unflatten(leaves), pixels), expected(peer, pixels)) > PEER_F32


def test_bfloat16_is_as_good_as_the_peers(case):
    peer, _, params = case
    half = Network(lambda rngs: SiglipVision(config_of(peer), dtype=jnp.bfloat16, rngs=rngs))
    pixels = np.array(jnp.asarray(pictures(peer, 16), jnp.bfloat16).astype(jnp.float32))
    rounded = copy.deepcopy(peer).bfloat16()
    theirs = expected(rounded, pixels, torch.bfloat16)
    oracle = expected(rounded.float(), pixels)
    ours = run(half, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params), pixels).astype(np.float32)
    assert relative_l2(ours, oracle) < BF16_RATIO * relative_l2(theirs, oracle)


def config_of(peer):
    vision = peer.config.vision_config
    return SiglipVisionConfig(
        width=vision.hidden_size,
        num_layers=vision.num_hidden_layers,
        num_heads=vision.num_attention_heads,
        mlp_width=vision.intermediate_size,
        patch_size=vision.patch_size,
        image_size=vision.image_size,
    )


@pytest.mark.slow
def test_part_by_part_is_the_whole(case):
    peer, network, params = case
    pixels = pictures(peer)
    outer = network.bind_outer({name: value for name, value in params.items() if name != "blocks"})
    x = outer.embed(jnp.asarray(pixels))
    programs = [
        jax.jit(lambda weights, x: network.bind_part(0, weights).attend(x)),
        jax.jit(lambda weights, x: network.bind_part(1, weights).transform(x)),
    ]
    for block, part in network.order:
        names = network.parts[part]
        weights = jax.tree.map(lambda leaf, block=block: leaf[block], {n: params["blocks"][n] for n in names})
        x = programs[part](weights, x)
    assert relative_l2(np.asarray(outer.finish(x)), run(network, params, pixels)) < NETWORK_F32


def test_pictures_of_a_batch_do_not_see_each_other(case):
    peer, network, params = case
    pixels = pictures(peer)
    others = np.concatenate([pixels[:1], -pixels[1:]])
    assert relative_l2(run(network, params, pixels)[:1], run(network, params, others)[:1]) < NETWORK_F32


def test_pictures_of_another_size_are_refused(case):
    peer, network, params = case
    with pytest.raises(ValueError, match="expected pictures"):
        run(network, params, pictures(peer)[:, 1:])


def test_published_sizes():
    assert SIGLIP_SO400M.num_patches == 729
    network = Network(lambda rngs: SiglipVision(SIGLIP_SO400M, dtype=jnp.float32, rngs=rngs))
    assert sum(leaf.size for _, leaf in flatten(network.abstract)) == pytest.approx(428e6, rel=1e-2)
