"""RetinaFace against a PyTorch twin of it, with random weights through the real conversion."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from convert.conversion import ConversionRequest, convert_checkpoints
from jax_interp.config import RETINAFACE_RESNET50
from jax_interp.models.retinaface import RetinaFace
from jax_interp.nn.params import Network, flatten, unflatten
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import load_params
from tests.golden import relative_l2
from tests.models import video_peers
from tests.tolerances import PEER_F32

CASES = {"narrow neck": {}, "wide neck": {"width": 8, "blocks": (2, 1, 1, 2), "neck": 72}}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """(peer, our network, its converted float32 parameters)"""
    peer = video_peers.retinaface(**CASES[request.param])
    root = tmp_path_factory.mktemp("faces")
    video_peers.write_face_blur(root / "checkpoints", peer)
    convert_checkpoints(ConversionRequest(checkpoint_dir=root / "checkpoints", output_dir=root / "converted"))
    found = find_component(root / "converted", "face_blur")
    network = Network(lambda rngs: RetinaFace(found.config, dtype=jnp.float32, rngs=rngs))
    return peer, network, load_params(found, network.abstract, jnp.float32)


def pixels(height, width, count=2):
    return np.random.default_rng(0).uniform(-120, 140, (count, height, width, 3)).astype(np.float32)


def expected(peer, x):
    with torch.no_grad():
        boxes, classes, landmarks = peer(torch.from_numpy(x).permute(0, 3, 1, 2))
    return boxes.numpy(), classes[..., 1].numpy(), landmarks.numpy()


@cache
def forward(network):
    return jax.jit(lambda params, x: network.bind(params)(x))


def run(network, params, x):
    return [np.asarray(out) for out in forward(network)(params, x)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 96), (75, 50)])
def test_outputs_equal_the_peers(case, size):
    peer, network, params = case
    x = pixels(*size)
    for ours, theirs in zip(run(network, params, x), expected(peer, x), strict=True):
        assert ours.shape == theirs.shape
        assert relative_l2(ours, theirs) < PEER_F32


@pytest.mark.parametrize(
    "path",
    [
        "body/stem/conv/kernel",
        "body/stage_2_block_0/shortcut/norm/variance",
        "body/stage_4_block_0/expand/norm/mean",
        "neck/merge1/norm/bias",
        "context2/see_7/conv/kernel",
        "box_head_1/bias",
    ],
)
def test_one_changed_weight_is_noticed(case, path):
    peer, network, params = case
    leaves = dict(flatten(params))
    leaves[path] = leaves[path] + 0.1  # of a whole array: some channels are cut off by ReLU
    x = pixels(64, 96)
    assert relative_l2(run(network, unflatten(leaves), x)[0], expected(peer, x)[0]) > PEER_F32


def test_pictures_of_a_batch_do_not_see_each_other(case):
    _, network, params = case
    x = pixels(64, 96)
    others = np.concatenate([x[:1], -x[1:]])
    for one, other in zip(run(network, params, x), run(network, params, others), strict=True):
        assert relative_l2(one[:1], other[:1]) < PEER_F32


def test_published_sizes():
    network = Network(lambda rngs: RetinaFace(RETINAFACE_RESNET50, dtype=jnp.float32, rngs=rngs))
    sizes = {path: leaf.size for path, leaf in flatten(network.abstract)}
    # ResNet-50 without its classifier has 23,508,032 parameters; its running statistics are 53,120 more.
    assert sum(size for path, size in sizes.items() if path.startswith("body/")) == 23_508_032 + 53_120
    frame = jax.ShapeDtypeStruct((1, 704, 1280, 3), jnp.float32)
    found = jax.eval_shape(lambda params, x: network.bind(params)(x), network.abstract, frame)
    assert [out.shape for out in found] == [(1, 36960, 4), (1, 36960), (1, 36960, 10)]
