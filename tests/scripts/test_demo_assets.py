"""The committed demo checkpoint and clip: small, readable, in the published layout."""

import json
import re
from importlib.resources import files
from pathlib import Path

import av
import numpy as np
import pytest
from tokenizers import Tokenizer

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from scripts.demo import blended
from scripts.demo_training.text import build_tokenizer
from tests.golden import manifest

DEMO = Path(str(files("jax_interp"))) / "demo"
CHECKPOINTS = DEMO / "checkpoints"
TOKENIZER = CHECKPOINTS / "Cosmos-Tokenize1-CV8x8x8-720p"
T5 = CHECKPOINTS / "google-t5/t5-11b"


def key_patterns(state):
    """Names with block numbers taken out, and each one's dtype."""
    return {(re.sub(r"block\d+", "block*", name), str(dtype).removeprefix("torch.")) for name, dtype in state.items()}


def published(name):
    return key_patterns({key: value.split()[0] for key, value in manifest()["state_dicts"][name].items()})


def test_total_size_is_small():
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 20_000_000


def test_transformer_has_the_published_keys():
    state = torch.load(CHECKPOINTS / "Cosmos-Predict1-7B-WorldInterpolator/model.pt", weights_only=True)
    assert key_patterns({name: tensor.dtype for name, tensor in state.items()}) == published("model.pt")
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_tokenizer_has_the_published_keys(name):
    state = load_file(TOKENIZER / f"{name}.safetensors")
    wanted = manifest()["state_dicts"][f"{name}.jit"].items()
    assert {key: str(tensor.dtype).removeprefix("torch.") for key, tensor in state.items()} == {
        key: value.split()[0] for key, value in wanted if not value.startswith("int")
    }


def test_statistics():
    mean, std = torch.load(TOKENIZER / "mean_std.pt", weights_only=True)
    assert mean.shape == std.shape == (16, 16)
    image_mean, image_std = torch.load(TOKENIZER / "image_mean_std.pt", weights_only=True)
    assert image_mean.shape == image_std.shape == (16,)
    assert (std > 0).all()
    assert torch.equal(mean[:, 0], image_mean)


def test_text_encoder_and_its_vocabulary():
    config = json.loads((T5 / "config.json").read_text())
    state = torch.load(T5 / "pytorch_model.bin", weights_only=True)
    assert state["shared.weight"].shape == (config["vocab_size"], config["d_model"])
    assert state["shared.weight"].dtype == torch.float32
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(T5 / "tokenizer.json"))
    assert len(tokenizer) == config["vocab_size"]
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<pad>", "</s>", "<unk>"]
    ids = tokenizer(manifest()["negative_prompt"]).input_ids
    assert ids[-1] == 1
    assert 2 not in ids
    assert len(ids) < 512


def test_vocabulary_is_made_the_same_way_again():
    made, kept = build_tokenizer(0), Tokenizer.from_file(str(T5 / "tokenizer.json"))
    assert made.get_vocab() == kept.get_vocab()
    text = "A red ball and two boxes move over green ground."
    assert made.encode(text).ids == kept.encode(text).ids


def test_clip_is_film_with_motion_at_its_own_rate():
    with av.open(str(DEMO / "clip.mp4")) as container:
        stream = container.streams.video[0]
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        assert stream.average_rate == 24
    assert frames.shape == (37, 192, 320, 3)
    assert np.abs(np.diff(frames.astype(np.int16), axis=0)).mean() > 1


def test_film_and_weights_say_where_they_come_from():
    card = (DEMO / "README.md").read_text()
    assert "Blender Foundation" in card
    assert "creativecommons.org/licenses/by/3.0" in card


def test_blending_keeps_the_ends_and_mixes_between():
    truth = np.zeros((19, 1, 1, 3), np.uint8)
    truth[9], truth[18] = 90, 180
    assert blended(truth)[:, 0, 0, 0].tolist() == list(range(0, 190, 10))
