"""The tokenizer against diffusers' independent implementation, both from one set of random weights.

Here ours takes diffusers' wavelet filter through the weight table, where upstream's files have a rounded one, and the
statistics that diffusers does not know are mean 0 and deviation 1.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch

from convert.architecture.infer import infer_video_tokenizer
from jax_interp.config import VideoTokenizerConfig
from jax_interp.nn.params import flatten, unflatten
from jax_interp.parity.peers import video_tokenizer
from tests.golden import channels_last, relative_l2
from tests.models.video_tokenizer_weights import FAST_COMPILE, convert, network
from tests.tolerances import PEER_F32


@dataclass(frozen=True)
class Case:
    """Sizes of a tokenizer and of the clip it is tried on."""

    multipliers: tuple[int, ...]
    latent_shape: tuple[int, int, int]
    channels: int = 6
    num_res_blocks: int = 1
    latent_channels: int = 16
    patch_size: int = 4
    batch: int = 1


CASES = (
    Case((2, 4, 4), (2, 3, 5), num_res_blocks=2),
    Case((1, 3, 2), (3, 4, 2), channels=5, batch=2),
    Case((1, 2, 2, 3), (1, 6, 4), latent_channels=7),
    Case((2, 1, 3, 2), (2, 2, 4), patch_size=2),
)
LONG = Case((1, 2, 2), (16, 2, 2), channels=4)
"""The 121 frames of Video2World."""


@cache
def peer(case):
    """diffusers' network with every parameter drawn anew, norms and biases too."""
    config = VideoTokenizerConfig(
        channels=case.channels,
        channel_multipliers=case.multipliers,
        num_res_blocks=case.num_res_blocks,
        latent_channels=case.latent_channels,
        patch_size=case.patch_size,
    )
    model = video_tokenizer.build(config)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.2 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            centre = 1.0 if name.endswith("norm.weight") else 0.0
            parameter.copy_(centre + spread * torch.randn(parameter.shape, generator=rng))
    return model.eval()


@cache
def ours(case):
    """Our configuration and parameters, read off the peer's weights under upstream's names."""
    model: Any = peer(case)
    weights = model.state_dict().items()
    tensors = {video_tokenizer.upstream_name(key, len(case.multipliers)): tensor.numpy() for key, tensor in weights}
    tensors |= {key: model.get_buffer(name).numpy() for name, key in video_tokenizer.WAVELETS.items()}
    for name, shape in (("mean_std", (case.latent_channels, 3)), ("image_mean_std", (case.latent_channels,))):
        tensors |= {f"{name}.0": np.zeros(shape, np.float32), f"{name}.1": np.ones(shape, np.float32)}
    config = infer_video_tokenizer({key: tensor.shape for key, tensor in tensors.items()}, Path("diffusers"))
    return config, convert(tensors, config, "float32")


@cache
def compiled(case, method):
    net = network("float32", ours(case)[0])
    return jax.jit(lambda params, x: getattr(net.bind(params), method)(x), compiler_options=FAST_COMPILE)


@cache
def inputs(case):
    """A clip [B, 3, F, Y, X] and latents [B, C, T, H, W] in PyTorch's order."""
    frames, height, width = case.latent_shape
    rng = np.random.default_rng(1)
    x = rng.normal(size=(case.batch, 3, 8 * (frames - 1) + 1, 8 * height, 8 * width))
    z = rng.normal(size=(case.batch, case.latent_channels, *case.latent_shape))
    return x.astype(np.float32), z.astype(np.float32)


@cache
def theirs(case, method):
    model: Any = peer(case)
    x, z = inputs(case)
    with torch.no_grad():
        if method == "encode":
            return video_tokenizer.encode(model, torch.from_numpy(channels_last(x))).numpy()
        return video_tokenizer.decode(model, torch.from_numpy(channels_last(z))).numpy()


def error(case, method, params):
    x, z = inputs(case)
    return relative_l2(
        compiled(case, method)(params, channels_last(x if method == "encode" else z)), theirs(case, method)
    )


@pytest.mark.parametrize("method", ["encode", "decode"])
@pytest.mark.parametrize("case", [*CASES, LONG], ids=lambda case: "-".join(map(str, case.multipliers)))
def test_agrees_with_diffusers(case, method):
    assert error(case, method, ours(case)[1]) <= PEER_F32


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("encode", "encoder/down_0/block_1/norm2/bias"),
        ("encode", "encoder/mid/temporal_attention/value/kernel"),
        ("decode", "decoder/up_2/block_0/conv1/temporal/kernel"),
        ("decode", "decoder/up_1/resample/mix/kernel"),
    ],
)
def test_one_wrong_weight_is_noticed(method, path):
    case = CASES[0]
    leaves = dict(flatten(ours(case)[1]))
    leaves[path] = leaves[path].reshape(-1).at[0].add(0.1).reshape(leaves[path].shape)
    assert error(case, method, unflatten(leaves)) > PEER_F32


def test_the_cases_differ_in_every_setting():
    configs = [ours(case)[0] for case in CASES]
    assert [config.resampled_encoder_levels for config in configs] == [(0,), (0,), (0,), (0, 1)]
    assert [config.resampled_decoder_levels for config in configs] == [(1,), (1,), (2,), (1, 2)]
    assert {config.compression for config in configs} == {8}
    assert {config.patch_size for config in configs} == {2, 4}
