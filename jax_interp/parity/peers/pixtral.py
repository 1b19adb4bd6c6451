"""transformers' Pixtral: picture encoder and language model, whose weights four kinds of files hold."""

from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import nn
from transformers import LlavaConfig, MistralForCausalLM
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
from transformers.models.pixtral.modeling_pixtral import PixtralVisionModel

from jax_interp.config import PixtralConfig

Locate = Callable[[str], tuple[str, int | None]]
"""A function from transformers' name of a weight to a checkpoint's key, and the head width where its rotary pairs are
neighbours."""

_MISTRAL = {
    "language_model.": "",
    "vision_tower.": "vision_encoder.",
    "multi_modal_projector.linear_1": "vision_language_adapter.w_in",
    "multi_modal_projector.linear_2": "vision_language_adapter.w_out",
    "lm_head": "output",
    "embed_tokens": "tok_embeddings",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn": "attention",
    "mlp.": "feed_forward.",
    **{f".{part}_proj": f".w{part}" for part in "qkvo"},
    "gate_proj": "w1",
    "down_proj": "w2",
    "up_proj": "w3",
}
"""Parts of transformers' names as Mistral has them, replaced in turn."""

_UPSTREAM = {
    "vision_encoder.": "model.vision_encoder.",
    "vision_language_adapter.w_in": "model.mm_projector.projector.0",
    "vision_language_adapter.w_out": "model.mm_projector.projector.2",
}
"""The beginnings of Mistral's names as upstream's `model.pt` has them; all others are below `model.model.`."""


class Pictures(nn.Module):
    """The picture encoder and the projector behind it."""

    def __init__(self, config: LlavaConfig):
        super().__init__()
        self.vision_tower = PixtralVisionModel(config.vision_config)  # pyright: ignore[reportArgumentType]
        self.multi_modal_projector = LlavaMultiModalProjector(config)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return one vector for each patch of a picture [1, 3, Y, X]."""
        return self.multi_modal_projector(self.vision_tower(pixels).last_hidden_state)


def language(config: LlavaConfig) -> MistralForCausalLM:
    """Build the language model."""
    return MistralForCausalLM(config.text_config)  # pyright: ignore[reportArgumentType]


def names_in(keys: Collection[str], config: PixtralConfig) -> Locate:
    """Return where a checkpoint with these keys has the weights of `Pictures` and `language`.

    transformers' names are those of `LlavaForConditionalGeneration` without `model.` in front, as
    "language_model.layers.0.self_attn.q_proj.weight", "vision_tower.ln_pre.weight" or "lm_head.weight".
    """
    if any(key.startswith("model.language_model.") for key in keys):
        return lambda name: (name if name.startswith("lm_head") else f"model.{name}", None)
    if any(key.startswith("language_model.") for key in keys):
        return lambda name: (_published(name), None)
    upstream = any(key.startswith("model.mm_projector.") for key in keys)
    return lambda name: (mistral_name(name, upstream=upstream), _neighbours(name, config))


def is_mistrals(keys: Collection[str]) -> bool:
    """Tell whether a checkpoint with these keys is spelled as Mistral's files are, upstream's among them."""
    return not any(key.startswith(("model.language_model.", "language_model.")) for key in keys)


def halves(weight: np.ndarray, head_width: int) -> np.ndarray:
    """Return a query or key weight [out, in] whose rotary pairs are neighbours with the pairs half a head apart."""
    heads = weight.reshape(-1, head_width, weight.shape[1])
    return np.concatenate([heads[:, 0::2], heads[:, 1::2]], axis=1).reshape(weight.shape)


def _published(name: str) -> str:
    if name.startswith("lm_head"):
        return f"language_model.{name}"
    return name.replace("language_model.", "language_model.model.", 1)


def mistral_name(name: str, *, upstream: bool = False) -> str:
    """Return the key that Mistral's files, or upstream's, have for the weight that transformers calls `name`."""
    for theirs, mistrals in _MISTRAL.items():
        name = name.replace(theirs, mistrals)
    if not upstream:
        return name
    for theirs, changed in _UPSTREAM.items():
        if name.startswith(theirs):
            return changed + name.removeprefix(theirs)
    return f"model.model.{name}"


def _neighbours(name: str, config: PixtralConfig) -> int | None:
    if ".q_proj" not in name and ".k_proj" not in name:
        return None
    return (config.vision if name.startswith("vision_tower.") else config.text).head_width
