"""Weight table of SigLIP's picture encoder: `model.safetensors` of a Hugging Face SigLIP checkpoint."""

from convert.mapping.ops import Op, keep, picture_patches, transpose
from convert.mapping.rules import Ignored, Rule

_LAYER = "vision_model.encoder.layers.{layer}"
_POOLING = "vision_model.head"


def _affine(src: str, dst: str, op: Op = transpose) -> tuple[Rule, ...]:
    return Rule(f"{src}.weight", f"{dst}/kernel", op), Rule(f"{src}.bias", f"{dst}/bias")


def _norm(src: str, dst: str) -> tuple[Rule, ...]:
    return Rule(f"{src}.weight", f"{dst}/scale"), Rule(f"{src}.bias", f"{dst}/bias")


RULES = (
    *_affine("vision_model.embeddings.patch_embedding", "patch_embedding", picture_patches),
    Rule("vision_model.embeddings.position_embedding.weight", "positions"),
    *_norm(_LAYER + ".layer_norm1", "blocks/attention_norm"),
    *_affine(_LAYER + ".self_attn.q_proj", "blocks/attention/query"),
    *_affine(_LAYER + ".self_attn.k_proj", "blocks/attention/key"),
    *_affine(_LAYER + ".self_attn.v_proj", "blocks/attention/value"),
    *_affine(_LAYER + ".self_attn.out_proj", "blocks/attention/out"),
    *_norm(_LAYER + ".layer_norm2", "blocks/mlp_norm"),
    *_affine(_LAYER + ".mlp.fc1", "blocks/mlp/up"),
    *_affine(_LAYER + ".mlp.fc2", "blocks/mlp/down"),
    *_norm("vision_model.post_layernorm", "final_norm"),
    Rule(_POOLING + ".probe", "pooling/probe"),
    Rule(_POOLING + ".attention.in_proj_weight", "pooling/query_key_value/kernel", transpose),
    Rule(_POOLING + ".attention.in_proj_bias", "pooling/query_key_value/bias", keep),
    *_affine(_POOLING + ".attention.out_proj", "pooling/out"),
    *_norm(_POOLING + ".layernorm", "pooling/norm"),
    *_affine(_POOLING + ".mlp.fc1", "pooling/mlp/up"),
    *_affine(_POOLING + ".mlp.fc2", "pooling/mlp/down"),
)

IGNORED = (
    Ignored("text_model.*", "only pictures are looked at"),
    Ignored("logit_scale", "compares pictures with texts"),
    Ignored("logit_bias", "compares pictures with texts"),
    Ignored("vision_model.embeddings.position_ids", "0, 1, 2, ...: positions of the patches"),
)

EXPORTED = "siglip.safetensors"
"""The file name under which `export` writes the picture encoder of SigLIP alone."""

_FOLDERS = (
    "google/siglip-so400m-patch14-384/",
    "models--google--siglip-so400m-patch14-384/snapshots/*/",
    "google/siglip-so400m-patch14-384/models--google--siglip-so400m-patch14-384/snapshots/*/",
    "google/siglip-so400m-patch14-384/snapshots/*/",
)
"""Where Hugging Face's files may be beside `safety_filter.pt`: in a plain folder, or in a cache of its loader."""

WEIGHTS = (EXPORTED, *(f"{folder}model.safetensors" for folder in _FOLDERS))
SETTINGS = ("config.json", *(f"{folder}config.json" for folder in _FOLDERS))
