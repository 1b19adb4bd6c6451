"""The networks that the demo checkpoint is trained with compute what the published ones compute."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from demo_assets import tokenizer, transformer
from tests.golden import CHECKPOINTS, load, relative_l2
from tests.tolerances import NETWORK_F32

TOKENIZER = CHECKPOINTS / "Cosmos-Tokenize1-CV8x8x8-720p"
FILES = {"encoder": tokenizer.EncoderFile, "decoder": tokenizer.DecoderFile}


def tokenizer_part(name):
    network = FILES[name](tokenizer.Sizes(channels=8))
    network.load_state_dict(load_file(TOKENIZER / f"{name}.safetensors"))
    return network.float()


def dit():
    network = transformer.DiT(transformer.Sizes(128, 4, 3, 64, 16, (16, 16, 16)))
    state = torch.load(CHECKPOINTS / "Cosmos-Predict1-7B-WorldInterpolator/model.pt")
    unread = ("_extra_state", "pos_embedder.seq")
    own = {name.removeprefix("net."): tensor for name, tensor in state.items() if name.startswith("net.")}
    network.load_state_dict({name: tensor for name, tensor in own.items() if not name.endswith(unread)})
    return network.float()


def dit_error(network, case):
    golden = load(f"L1_dit_case{case}")
    x, c_noise, text, mask, fps, padding = (
        torch.from_numpy(golden[name])
        for name in ("x", "timesteps", "crossattn_emb", "condition_video_input_mask", "fps", "padding_mask")
    )
    padding = F.interpolate(padding, x.shape[-2:])[:, :, None].expand_as(mask)
    with torch.no_grad():
        return relative_l2(network(x, c_noise, text, mask, fps, padding), golden["out_float32"])


def tokenizer_error(network, name, kind):
    golden = load("L2_tokenizer")
    source, wanted = {"encoder": ("x", "raw_encode"), "decoder": ("z", "raw_decode")}[name]
    with torch.no_grad():
        ours = network(torch.from_numpy(golden[f"{source}_{kind}"]))
    return relative_l2(ours, golden[f"float32.{wanted}_{kind}"])


@pytest.mark.parametrize("case", range(5))
def test_transformer(case):
    assert dit_error(dit(), case) < NETWORK_F32


@pytest.mark.parametrize("kind", ["video", "image"])
@pytest.mark.parametrize("name", FILES)
def test_tokenizer(name, kind):
    assert tokenizer_error(tokenizer_part(name), name, kind) < NETWORK_F32


def test_one_wrong_weight_is_noticed():
    network = dit()
    network.get_parameter("blocks.block1.blocks.0.block.attn.to_k.0.weight").data[3, 5] += 0.1
    assert dit_error(network, 0) > NETWORK_F32
    part = tokenizer_part("decoder")
    part.get_parameter("decoder.mid.block_1.conv1.1.conv3d.weight").data[2, 1, 0] += 0.1
    assert tokenizer_error(part, "decoder", "video") > NETWORK_F32


def test_key_names_are_the_published_ones():
    published = set(load_file(TOKENIZER / "encoder.safetensors"))
    assert set(tokenizer.EncoderFile(tokenizer.Sizes(channels=4)).state_dict()) == published


def test_haar_transform_comes_back():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 9, 16, 8), np.float32))
    haar = tokenizer.Haar(forward_only=True)
    # The stored filter is rounded to bfloat16: a pair of transforms scales by 8 * 0.70703125^6.
    scale = (2 * 0.70703125**2) ** 6
    torch.testing.assert_close(haar.unpatch(haar.patch(x)), x * scale, atol=1e-5, rtol=1e-5)
