"""The classifier of frames against PyTorch, behind SigLIP, through the real conversion."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from convert.conversion import ConversionRequest, convert_checkpoints
from jax_interp.config import VIDEO_SAFETY, SiglipVisionConfig, VideoSafetyConfig
from jax_interp.models.safety_head import SafetyHead, VideoSafety
from jax_interp.nn.params import Network, StackedNetwork, flatten, unflatten
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import load_params
from tests.golden import relative_l2
from tests.models import video_peers
from tests.tolerances import NETWORK_F32, PEER_F32


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """(SigLIP, classifier, our network, its converted float32 parameters)"""
    encoder, classifier = video_peers.siglip(), video_peers.safety_filter()
    root = tmp_path_factory.mktemp("video")
    video_peers.write_video_safety(root / "checkpoints", encoder, classifier)
    convert_checkpoints(ConversionRequest(checkpoint_dir=root / "checkpoints", output_dir=root / "converted"))
    found = find_component(root / "converted", "video_safety")
    network = StackedNetwork(lambda rngs: VideoSafety(found.config, dtype=jnp.float32, rngs=rngs))
    return encoder, classifier, network, load_params(found, network.abstract, jnp.float32)


def pictures():
    return np.random.default_rng(0).uniform(-1, 1, (4, 45, 45, 3)).astype(np.float32)


def expected(encoder, classifier, pixels):
    """What upstream does: the pooled vector at unit length, classified."""
    with torch.no_grad():
        features = encoder.vision_model(torch.from_numpy(pixels).permute(0, 3, 1, 2)).pooler_output
        return classifier(features / features.norm(dim=-1, keepdim=True)).numpy()


@cache
def forward(network):
    return jax.jit(lambda params, x: network.bind(params)(x))


def run(network, params, pixels):
    return np.asarray(forward(network)(params, pixels))


def test_logits_equal_the_peers(case):
    encoder, classifier, network, params = case
    assert relative_l2(run(network, params, pictures()), expected(encoder, classifier, pictures())) < PEER_F32


@pytest.mark.parametrize(
    "path",
    ["head/linear_0/kernel", "head/norm_0/mean", "head/norm_1/variance", "head/norm_1/bias", "head/linear_2/bias"],
)
def test_one_changed_weight_is_noticed(case, path):
    encoder, classifier, network, params = case
    leaves = dict(flatten(params))
    leaves[path] = leaves[path] + 0.01  # of a whole array: some units are cut off by ReLU
    changed = run(network, unflatten(leaves), pictures())
    assert relative_l2(changed, expected(encoder, classifier, pictures())) > PEER_F32


def test_the_head_alone_equals_the_peer(case):
    _, classifier, network, params = case
    x = np.random.default_rng(1).standard_normal((5, 24)).astype(np.float32)
    head = Network(lambda rngs: SafetyHead(config(network), dtype=jnp.float32, rngs=rngs))
    with torch.no_grad():
        theirs = classifier(torch.from_numpy(x)).numpy()
    assert relative_l2(np.asarray(head.bind(params["head"])(jnp.asarray(x))), theirs) < NETWORK_F32


def config(network):
    heads = network.abstract["head"]
    widths = tuple(heads[name]["kernel"].shape[1] for name in ("linear_0", "linear_1"))
    tower = SiglipVisionConfig(width=heads["linear_0"]["kernel"].shape[0])
    return VideoSafetyConfig(tower=tower, head_widths=widths)


def test_published_sizes():
    network = Network(lambda rngs: SafetyHead(VIDEO_SAFETY, dtype=jnp.float32, rngs=rngs))
    shapes = {path: leaf.shape for path, leaf in flatten(network.abstract) if path.endswith("kernel")}
    assert shapes == {"linear_0/kernel": (1152, 512), "linear_1/kernel": (512, 256), "linear_2/kernel": (256, 7)}
