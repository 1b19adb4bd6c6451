"""The settings of transformers' networks: from the `config.json` of the user's own checkpoint, or from ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from transformers import LlamaConfig, LlavaConfig, PretrainedConfig, SiglipConfig, T5Config

from convert.architecture.exported_settings import llama_settings, pixtral_settings, siglip_settings
from convert.formats.stored_tensor import StoredTensor
from jax_interp import config as ours
from jax_interp.errors import CheckpointError
from jax_interp.parity.peers.pixtral import is_mistrals

SettingsT = TypeVar("SettingsT", bound=PretrainedConfig)

_FILE = "config.json"


def t5(tensors: Mapping[str, StoredTensor], config: ours.T5Config) -> T5Config:
    """Return the settings of T5's encoder."""
    stated = {
        "vocab_size": config.vocab_size,
        "d_model": config.width,
        "d_kv": config.head_width,
        "num_heads": config.num_heads,
        "d_ff": config.mlp_width,
        "num_layers": config.num_layers,
        "relative_attention_num_buckets": config.num_buckets,
        "relative_attention_max_distance": config.max_distance,
    }
    return _read(T5Config, _beside(tensors, "shared.weight"), stated)


def llama(tensors: Mapping[str, StoredTensor], config: ours.DecoderConfig) -> LlamaConfig:
    """Return the settings of Llama."""
    return _read(LlamaConfig, _beside(tensors, "model.norm.weight"), llama_settings(config))


def siglip(tensors: Mapping[str, StoredTensor], config: ours.VideoSafetyConfig) -> SiglipConfig:
    """Return the settings of SigLIP."""
    return _read(SiglipConfig, _beside(tensors, "vision_model.post_layernorm.weight"), siglip_settings(config))


def llava(tensors: Mapping[str, StoredTensor], config: ours.PixtralConfig) -> LlavaConfig:
    """Return the settings of Pixtral; those of Mistral's own files are in a format that transformers does not read."""
    key = next(iter(tensors))
    path = None if is_mistrals(tensors) else _beside(tensors, key)
    return _read(LlavaConfig, path, pixtral_settings(config))


def _beside(tensors: Mapping[str, StoredTensor], key: str) -> Path | None:
    """Return the settings beside the file of the tensor `key`, if there are any."""
    path = tensors[key].stamp.path.parent / _FILE
    return path if path.is_file() else None


def _read(kind: type[SettingsT], path: Path | None, stated: dict[str, Any]) -> SettingsT:
    """Read `path`, which the conversion has read too, or take what is `stated` without it."""
    try:
        settings = kind(**stated) if path is None else kind.from_json_file(path)
    except Exception as error:  # transformers checks settings with errors of many kinds
        fault = f"{type(error).__name__}: {str(error)[:300]}"
        raise CheckpointError(
            f"{path or 'the checkpoint'}: transformers cannot take these settings ({fault}); download the file again"
        ) from error
    settings._attn_implementation = "eager"
    return settings
