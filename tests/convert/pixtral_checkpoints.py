"""A tiny random Pixtral of transformers, and every kind of checkpoint folder that it can be published in."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import transformers

from jax_interp.config import DecoderConfig, PixtralConfig, PixtralVisionConfig
from jax_interp.parity.peers.pixtral import mistral_name
from tests.convert.checkpoints import write_tensors
from tests.convert.trees import arrays_of
from tests.pixtral_tokenizer import CONTROL_TOKENS, NUM_TOKENS, write_tokenizer

FOLDER = "Pixtral-12B"
CONFIG = PixtralConfig(
    text=DecoderConfig(
        vocab_size=NUM_TOKENS,
        width=40,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        head_width=8,
        mlp_width=56,
        context_length=131072,
    ),
    vision=PixtralVisionConfig(
        width=128, num_layers=2, num_heads=16, head_width=8, mlp_width=48, text_width=40, patch_size=4, image_size=64
    ),
)
KINDS = ("published", "sharded", "newer", "mistral", "upstream")


def llava_config(config: PixtralConfig) -> transformers.LlavaConfig:
    """What transformers calls `config`."""
    text, vision = config.text, config.vision
    return transformers.LlavaConfig(
        text_config=transformers.MistralConfig(
            vocab_size=text.vocab_size,
            hidden_size=text.width,
            intermediate_size=text.mlp_width,
            num_hidden_layers=text.num_layers,
            num_attention_heads=text.num_heads,
            num_key_value_heads=text.num_kv_heads,
            head_dim=text.head_width,
            rms_norm_eps=text.norm_epsilon,
            rope_parameters={"rope_type": "default", "rope_theta": text.rotary_base},
            sliding_window=None,
        ),
        vision_config=transformers.PixtralVisionConfig(
            hidden_size=vision.width,
            intermediate_size=vision.mlp_width,
            num_hidden_layers=vision.num_layers,
            num_attention_heads=vision.num_heads,
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            hidden_act="silu",
        ),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_token_index=CONTROL_TOKENS.index("[IMG]"),
    )


@cache
def peer() -> Any:
    """The model, with weights that make attention prefer some tokens and patches."""
    config = llava_config(CONFIG)
    config._attn_implementation = "eager"
    model = transformers.LlavaForConditionalGeneration(config).eval()
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            spread = 1.5 * weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.2
            weight.copy_(torch.randn(weight.shape, generator=draw) * spread + ("norm" in key or "ln_pre" in key))
    return model


@cache
def newer_tensors() -> Mapping[str, np.ndarray]:
    """The peer's tensors as it calls them itself."""
    return arrays_of(peer())


@cache
def mistral_tensors() -> Mapping[str, np.ndarray]:
    """The same under Mistral's names, component `half * j + i` of a head moved back to `2 * i + j`."""
    tensors = {}
    for key, tensor in newer_tensors().items():
        width = CONFIG.vision.head_width if "vision" in key else CONFIG.text.head_width
        moved = tensor
        if ".q_proj" in key or ".k_proj" in key:
            order = np.arange(width).reshape(2, -1).T.reshape(-1)
            moved = tensor.reshape(-1, width, tensor.shape[1])[:, order].reshape(tensor.shape)
        tensors[mistral_name(key.removeprefix("model."))] = moved
    return tensors


MISTRAL_SETTINGS: dict[str, Any] = {
    "dim": 40,
    "n_layers": 3,
    "head_dim": 8,
    "hidden_dim": 56,
    "n_heads": 4,
    "n_kv_heads": 2,
    "rope_theta": 1e9,
    "norm_eps": 1e-5,
    "vocab_size": NUM_TOKENS,
    "vision_encoder": {
        "hidden_size": 128,
        "num_channels": 3,
        "image_size": 64,
        "patch_size": 4,
        "rope_theta": 10000.0,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 16,
        "image_token_id": 10,
    },
}


def upstream_state() -> dict[str, dict[str, torch.Tensor]]:
    """What upstream saves: everything below `model`, the picture encoder and the projector once more beside it."""
    language, tower, projector = {}, {}, {}
    for key, array in mistral_tensors().items():
        tensor = torch.from_numpy(array.copy())
        if key.startswith("vision_encoder."):
            tower[key.removeprefix("vision_encoder.")] = tensor
        elif key.startswith("vision_language_adapter."):
            part, leaf = key.removeprefix("vision_language_adapter.").split(".")
            projector[f"projector.{0 if part == 'w_in' else 2}.{leaf}"] = tensor
        else:
            language[f"model.{key}"] = tensor
    whole = language | {f"mm_projector.{key}": tensor for key, tensor in projector.items()}
    whole |= {f"vision_encoder.{key}": tensor for key, tensor in tower.items()}
    return {"model": whole, "mm_projector": projector, "vision_encoder": tower}


def write_pixtral(root: Path, kind: str = "published", changes: Mapping[str, np.ndarray | None] | None = None) -> Path:
    """A checkpoint folder with the tiny Pixtral; `changes` are to the tensors of the kind `newer` or `mistral`."""
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    if kind in ("published", "sharded"):
        peer().save_pretrained(folder, max_shard_size="5GB" if kind == "published" else "40KB")
        return root
    if kind == "upstream":
        torch.save(upstream_state(), folder / "model.pt")
        settings = {key: value for key, value in MISTRAL_SETTINGS.items() if key != "hidden_dim"}
        settings |= {"ffn_hidden_size": 56, "vision_encoder": "pixtral-12b-vit"}
        (folder / "config.json").write_text(json.dumps(settings))
        return root
    tensors: dict[str, Any] = {**(newer_tensors() if kind == "newer" else mistral_tensors()), **(changes or {})}
    tensors = {key: array for key, array in tensors.items() if array is not None}
    write_tensors(folder / ("model.safetensors" if kind == "newer" else "consolidated.safetensors"), tensors)
    if kind == "newer":
        peer().config.save_pretrained(folder)
    else:
        (folder / "params.json").write_text(json.dumps(MISTRAL_SETTINGS))
    return root
