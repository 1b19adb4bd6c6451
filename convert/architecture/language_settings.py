"""The settings beside the weights of language models, Hugging Face's and Mistral's, as parts of our configurations."""

from dataclasses import replace

from convert.architecture.settings import CheckpointSettings
from jax_interp.config import DecoderConfig, PixtralVisionConfig

HUGGING_FACE_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "width",
    "intermediate_size": "mlp_width",
    "num_hidden_layers": "num_layers",
    "num_key_value_heads": "num_kv_heads",
    "head_dim": "head_width",
}
"""Our name of each size by the name that Hugging Face's settings give it; shapes tell these sizes too."""

MISTRAL_SIZES = {
    "vocab_size": "vocab_size",
    "dim": "width",
    "hidden_dim": "mlp_width",
    "ffn_hidden_size": "mlp_width",
    "n_layers": "num_layers",
    "n_kv_heads": "num_kv_heads",
    "head_dim": "head_width",
}
"""The same for Mistral's settings and upstream's, which call the MLP's width by another name."""

VISION_SIZES = {
    "hidden_size": "width",
    "intermediate_size": "mlp_width",
    "num_hidden_layers": "num_layers",
    "patch_size": "patch_size",
    "head_dim": "head_width",
}

_MISTRAL_KNOWN = {*MISTRAL_SIZES, "n_heads", "rope_theta", "norm_eps", "vision_encoder"}
_TOKEN_IDS = {"image_token_id", "image_break_token_id", "image_end_token_id"}
_MISTRAL_VISION_KNOWN = {*VISION_SIZES, *_TOKEN_IDS, "num_attention_heads", "num_channels", "image_size", "rope_theta"}
_MISTRAL_FIXED = {"use_biases": False, "tied_embeddings": False}
_MISTRAL_VISION_FIXED = {
    "adapter_bias": True,
    "spatial_merge_size": 1,
    "mm_projector_id": "",
    "add_pre_mm_projector_layer_norm": False,
}
"""Entries that later models of Mistral's state; where this model's file states them, they must have these values."""

_UPSTREAM_VISION = "pixtral-12b-vit"
"""The name of the published picture encoder, which upstream's settings have in place of its settings."""


def hugging_face_decoder(settings: CheckpointSettings) -> DecoderConfig:
    """Return what shapes do not tell, from Hugging Face's settings; absent entries have transformers' defaults."""
    settings.expect("model_type", "mistral", "llama")
    is_mistral = settings.get("model_type") == "mistral"
    settings.expect("hidden_act", "silu", default="silu")
    for key in ("attention_bias", "mlp_bias"):
        settings.expect(key, False, default=False)
    settings.expect("quantization_config", None)
    context = settings.integer("max_position_embeddings", 131072 if is_mistral else 2048)
    window = settings.integer("sliding_window", 4096) if is_mistral and _has_window(settings) else context
    if window < context:
        settings.fault("sliding_window", f"expected null: every token of a context of {context} attends to all", 4096)
    known = DecoderConfig(
        num_heads=settings.integer("num_attention_heads", 32),
        norm_epsilon=settings.number("rms_norm_eps", 1e-6),
        tied_head=settings.flag("tie_word_embeddings"),
        context_length=context,
    )
    return _with_rotary(known, settings)


def _has_window(settings: CheckpointSettings) -> bool:
    """Tell whether there is a sliding window: null means that there is none, an absent entry that there is."""
    return settings.has("sliding_window") or not settings.states("sliding_window")


def _with_rotary(config: DecoderConfig, settings: CheckpointSettings) -> DecoderConfig:
    """Return `config` with its rotary settings, of newer files (`rope_parameters`) or older ones (`rope_scaling`)."""
    rotary = settings.section("rope_parameters" if settings.has("rope_parameters") else "rope_scaling")
    kind = "rope_type" if rotary.has("rope_type") or not rotary.has("type") else "type"
    rotary.expect(kind, "default", "llama3", default="default")
    for section in (settings, rotary):
        section.expect("partial_rotary_factor", 1, default=1)
    base = rotary.number("rope_theta", settings.number("rope_theta", 10000.0))
    if rotary.get(kind) != "llama3":
        return replace(config, rotary_base=float(base))
    return replace(
        config,
        rotary_base=float(base),
        rotary_stretch=float(rotary.number("factor")),
        rotary_stretched_turns=(float(rotary.number("low_freq_factor")), float(rotary.number("high_freq_factor"))),
        rotary_trained_length=rotary.integer("original_max_position_embeddings"),
    )


def mistral_decoder(settings: CheckpointSettings) -> DecoderConfig:
    """Return what shapes do not tell, from Mistral's settings; the context length is the published model's."""
    settings.expect_only(_MISTRAL_KNOWN, _MISTRAL_FIXED)
    return DecoderConfig(
        num_heads=settings.integer("n_heads"),
        norm_epsilon=settings.number("norm_eps"),
        rotary_base=float(settings.number("rope_theta")),
    )


def mistral_vision(settings: CheckpointSettings) -> CheckpointSettings:
    """Return the picture encoder's settings; upstream's file only names the published encoder, which leaves none."""
    if isinstance(settings.get("vision_encoder"), str):
        settings.expect("vision_encoder", _UPSTREAM_VISION)
        return CheckpointSettings(settings.path, {})
    if not settings.has("vision_encoder"):
        settings.fault("vision_encoder", "expected the settings of the picture encoder")
    vision = settings.section("vision_encoder")
    vision.expect_only(_MISTRAL_VISION_KNOWN, _MISTRAL_VISION_FIXED)
    return vision


def check_llava(settings: CheckpointSettings, vision: CheckpointSettings) -> None:
    """Note every entry of Hugging Face's settings that is not Pixtral's; absent entries have transformers' defaults."""
    settings.expect("model_type", "llava")
    settings.expect("quantization_config", None)
    settings.expect("projector_hidden_act", "gelu", default="gelu")
    settings.expect("multimodal_projector_bias", True, default=True)
    settings.expect("vision_feature_layer", -1, default=-2)
    settings.expect("vision_feature_select_strategy", "full", default="default")
    vision.expect("model_type", "pixtral")
    vision.expect("hidden_act", "silu", default="gelu")


def vision_encoder(settings: CheckpointSettings) -> PixtralVisionConfig:
    """Return what shapes do not tell of the picture encoder; Mistral and Hugging Face name these entries alike."""
    rotary = settings.section("rope_parameters")
    rotary.expect("rope_type", "axial", "default", default="axial")
    settings.expect("num_channels", 3, default=3)
    return PixtralVisionConfig(
        num_heads=settings.integer("num_attention_heads", 16),
        image_size=settings.integer("image_size", 1024),
        rotary_base=float(rotary.number("rope_theta", settings.number("rope_theta", 10000.0))),
    )
