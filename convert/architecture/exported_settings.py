"""Hugging Face's settings of our networks: the `config.json` that `export` writes where shapes do not tell all."""

from typing import Any

from jax_interp.config import DecoderConfig, PixtralConfig, VideoSafetyConfig

IMAGE_TOKEN = 10
"""The id of `[IMG]` in the vocabulary of Pixtral."""


def llama_settings(config: DecoderConfig) -> dict[str, Any]:
    """Return settings of `LlamaForCausalLM`, from which `infer_llama` gets `config` back."""
    return {"architectures": ["LlamaForCausalLM"]} | _decoder_settings(config, "llama")


def pixtral_settings(config: PixtralConfig) -> dict[str, Any]:
    """Return settings of `LlavaForConditionalGeneration`, from which `infer_pixtral` gets `config` back."""
    vision = config.vision
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": IMAGE_TOKEN,
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "tie_word_embeddings": config.text.tied_head,
        "text_config": _decoder_settings(config.text, "mistral") | {"sliding_window": None},
        "vision_config": {
            "model_type": "pixtral",
            "hidden_act": "silu",
            "hidden_size": vision.width,
            "intermediate_size": vision.mlp_width,
            "num_hidden_layers": vision.num_layers,
            "num_attention_heads": vision.num_heads,
            "head_dim": vision.head_width,
            "patch_size": vision.patch_size,
            "image_size": vision.image_size,
            "rope_theta": vision.rotary_base,
        },
    }


def siglip_settings(config: VideoSafetyConfig) -> dict[str, Any]:
    """Return settings of SigLIP's picture encoder, from which `infer_video_safety` gets `config` back."""
    tower = config.tower
    return {
        "model_type": "siglip",
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": tower.width,
            "num_hidden_layers": tower.num_layers,
            "num_attention_heads": tower.num_heads,
            "intermediate_size": tower.mlp_width,
            "patch_size": tower.patch_size,
            "image_size": tower.image_size,
        },
    }


def _decoder_settings(config: DecoderConfig, model_type: str) -> dict[str, Any]:
    slow, fast = config.rotary_stretched_turns
    stretched = {
        "rope_type": "llama3",
        "factor": config.rotary_stretch,
        "low_freq_factor": slow,
        "high_freq_factor": fast,
        "original_max_position_embeddings": config.rotary_trained_length,
    }
    return {
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tied_head,
        "max_position_embeddings": config.context_length,
        "rope_theta": config.rotary_base,
        "rope_scaling": stretched if config.rotary_stretch != 1 else None,
    }
