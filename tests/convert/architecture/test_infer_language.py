import json
from dataclasses import replace

import numpy as np
import pytest

from convert.architecture.exported_settings import llama_settings, pixtral_settings
from convert.architecture.infer_language import infer_llama, infer_pixtral
from convert.mapping.matching import plan_leaves
from convert.networks.components import PROMPT_UPSAMPLER
from convert.tables import decoder_lm, pixtral
from jax_interp.config import (
    LLAMA_2_7B,
    LLAMA_3_1_8B,
    PIXTRAL_12B,
    PIXTRAL_12B_TEXT,
    DecoderConfig,
    PixtralConfig,
    PixtralVisionConfig,
)
from jax_interp.errors import CheckpointError
from jax_interp.models.decoder_lm import DecoderLM
from jax_interp.nn.params import Network

SMALL = DecoderConfig(
    vocab_size=97, width=24, num_layers=3, num_heads=4, num_kv_heads=2, head_width=8, mlp_width=40, context_length=256
)
SMALL_PIXTRAL = PixtralConfig(
    text=SMALL,
    vision=PixtralVisionConfig(
        width=32, num_layers=2, num_heads=2, head_width=16, mlp_width=48, text_width=24, patch_size=4, image_size=64
    ),
)
MISTRAL = {"dim": 24, "n_layers": 3, "head_dim": 8, "hidden_dim": 40, "n_heads": 4, "n_kv_heads": 2} | {
    "rope_theta": 1e9,
    "norm_eps": 1e-5,
    "vocab_size": 97,
    "vision_encoder": {
        "hidden_size": 32,
        "num_channels": 3,
        "image_size": 64,
        "patch_size": 4,
        "rope_theta": 10000.0,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_token_id": 10,
        "image_break_token_id": 12,
        "image_end_token_id": 13,
    },
}
_, MISTRAL_TABLE, UPSTREAM_TABLE = pixtral.OTHER_TABLES


def shapes_of(leaves):
    """What a checkpoint holds of which this is the plan."""
    return {
        key: leaf.op.inverse(np.broadcast_to(np.uint8(0), leaf.part_shape)).shape
        for leaf in leaves
        for key in leaf.keys
    }


def llama_shapes(config):
    network = Network(lambda rngs: DecoderLM(config, dtype=np.float32, rngs=rngs))
    return shapes_of(plan_leaves(decoder_lm.hugging_face(), network.abstract))


def pixtral_shapes(config=SMALL_PIXTRAL, table=None):
    rules = table.rules(config) if table else pixtral.RULES
    return shapes_of(plan_leaves(rules, PROMPT_UPSAMPLER.abstract(config)))


def write(folder, settings, name="config.json"):
    (folder / name).write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return folder


def without(values, *keys):
    return {key: value for key, value in values.items() if key not in keys}


@pytest.mark.parametrize("config", [LLAMA_2_7B, LLAMA_3_1_8B, PIXTRAL_12B_TEXT, replace(SMALL, tied_head=True)])
def test_every_llama_is_told_by_what_is_written_of_it(tmp_path, config):
    assert infer_llama(llama_shapes(config), write(tmp_path, llama_settings(config))) == config


@pytest.mark.parametrize("table", [None, *pixtral.OTHER_TABLES], ids=lambda table: table.mark if table else "published")
@pytest.mark.parametrize("config", [PIXTRAL_12B, SMALL_PIXTRAL])
def test_every_pixtral_is_told_by_what_is_written_of_it(tmp_path, config, table):
    assert infer_pixtral(pixtral_shapes(config, table), write(tmp_path, pixtral_settings(config))) == config


def test_llama_guard_3_as_it_is_published(tmp_path):
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "eos_token_id": [128001, 128008, 128009],
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "vocab_size": 128256,
    }
    assert infer_llama(llama_shapes(LLAMA_3_1_8B), write(tmp_path, settings)) == LLAMA_3_1_8B
    newer = without(settings, "rope_scaling", "rope_theta")
    newer["rope_parameters"] = settings["rope_scaling"] | {"rope_theta": settings["rope_theta"]}
    assert infer_llama(llama_shapes(LLAMA_3_1_8B), write(tmp_path, newer)) == LLAMA_3_1_8B


def test_llama_2_says_little_and_means_transformers_defaults(tmp_path):
    settings = {"model_type": "llama", "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_scaling": None}
    assert infer_llama(llama_shapes(LLAMA_2_7B), write(tmp_path, settings)) == LLAMA_2_7B
    config = infer_llama(llama_shapes(LLAMA_2_7B), write(tmp_path, {"model_type": "llama"}))
    assert (config.context_length, config.norm_epsilon, config.rotary_base) == (2048, 1e-6, 1e4)


def test_the_community_pixtral_leaves_out_what_transformers_assumes(tmp_path):
    settings = {
        "model_type": "llava",
        "image_token_index": 10,
        "projector_hidden_act": "gelu",
        "text_config": {
            "head_dim": 128,
            "hidden_size": 5120,
            "max_position_embeddings": 1024000,
            "model_type": "mistral",
            "num_hidden_layers": 40,
            "rms_norm_eps": 1e-05,
            "rope_theta": 1000000000.0,
            "sliding_window": None,
            "vocab_size": 131072,
        },
        "vision_config": {
            "head_dim": 64,
            "hidden_act": "silu",
            "image_size": 1024,
            "model_type": "pixtral",
            "patch_size": 16,
            "rope_theta": 10000.0,
        },
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    }
    expected = replace(PIXTRAL_12B, text=replace(PIXTRAL_12B_TEXT, context_length=1024000))
    assert infer_pixtral(pixtral_shapes(PIXTRAL_12B), write(tmp_path, settings)) == expected


def test_mistrals_own_settings(tmp_path):
    write(tmp_path, "not JSON, and not looked at")
    found = infer_pixtral(pixtral_shapes(table=MISTRAL_TABLE), write(tmp_path, MISTRAL, "params.json"))
    assert found == replace(SMALL_PIXTRAL, text=replace(SMALL, context_length=PIXTRAL_12B_TEXT.context_length))


def test_upstreams_settings_name_the_picture_encoder(tmp_path):
    settings = without(MISTRAL, "hidden_dim") | {"ffn_hidden_size": 40, "vision_encoder": "pixtral-12b-vit"}
    sixteen = replace(SMALL_PIXTRAL.vision, width=128, num_heads=16, head_width=8)
    shapes = pixtral_shapes(replace(SMALL_PIXTRAL, vision=sixteen), UPSTREAM_TABLE)
    config = infer_pixtral(shapes, write(tmp_path, settings))
    assert config.vision == replace(sixteen, image_size=1024)
    write(tmp_path, settings | {"vision_encoder": "vit-of-tomorrow"})
    with pytest.raises(CheckpointError, match=r"vision_encoder is 'vit-of-tomorrow', expected 'pixtral-12b-vit'"):
        infer_pixtral(shapes, tmp_path)


def test_a_tied_head_that_is_stored_is_a_head_of_its_own(tmp_path):
    shapes = llama_shapes(SMALL)
    write(tmp_path, llama_settings(replace(SMALL, tied_head=True)))
    assert infer_llama(shapes, tmp_path) == SMALL
    assert infer_llama(without(shapes, "lm_head.weight"), tmp_path) == replace(SMALL, tied_head=True)


LLAMA_FAULTS = [
    ({"hidden_act": "gelu"}, "hidden_act is 'gelu', expected 'silu'"),
    ({"attention_bias": True}, "attention_bias is True, expected False"),
    ({"mlp_bias": True}, "mlp_bias is True"),
    ({"quantization_config": {"bits": 4}}, "quantization_config is .'bits': 4.*expected None"),
    ({"model_type": "mixtral"}, "model_type is 'mixtral', expected 'mistral' or 'llama'"),
    ({"model_type": "mistral", "sliding_window": 128}, "sliding_window is 128, .*context of 256"),
    ({"model_type": "mistral", "max_position_embeddings": 8192}, "sliding_window is missing, which means 4096"),
    ({"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling.rope_type is 'yarn', expected 'default' or 'llama3'"),
    ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling.type is 'linear'"),
    ({"rope_scaling": {"rope_type": "llama3"}}, "factor is missing.*low_freq_factor is missing.*original_max_position"),
    ({"rope_scaling": 5}, "rope_scaling is 5, expected an object"),
    ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor is 0.5"),
    ({"rope_theta": "much"}, "rope_theta is 'much', expected a positive number"),
    ({"num_attention_heads": 0}, "num_attention_heads is 0"),
    ({"num_attention_heads": 4.5}, "num_attention_heads is 4.5, expected a whole number"),
    ({"rms_norm_eps": True}, "rms_norm_eps is True"),
    ({"rope_theta": 10**400}, "rope_theta is 1000.*expected a positive number"),
    ({"hidden_size": 25, "head_dim": 16}, "hidden_size is 25, but the weights say 24.*head_dim is 16"),
    ({"num_attention_heads": 5}, "32 is not a multiple of 5"),
    ({"num_attention_heads": 32}, "heads are 1 wide, expected a multiple of 2"),
    ([1], "it is no JSON object"),
    ("{", "config.json: not a model's settings"),
]


@pytest.mark.parametrize(("change", "text"), LLAMA_FAULTS, ids=[str(change) for change, _ in LLAMA_FAULTS])
def test_settings_that_the_language_model_does_not_do_are_named(tmp_path, change, text):
    settings = llama_settings(SMALL)
    if isinstance(change, dict) and "model_type" not in change:
        del settings["rope_scaling"]
    write(tmp_path, settings | change if isinstance(change, dict) else change)
    with pytest.raises(CheckpointError, match=text) as error:
        infer_llama(llama_shapes(SMALL), tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("section", "change", "text"),
    [
        ("", {"model_type": "llava_next"}, "model_type is 'llava_next', expected 'llava'"),
        ("", {"projector_hidden_act": "relu"}, "projector_hidden_act is 'relu'"),
        ("", {"multimodal_projector_bias": False}, "multimodal_projector_bias is False"),
        ("", {"vision_feature_layer": None}, "vision_feature_layer is missing, which means -2, expected -1|-2"),
        ("", {"vision_feature_select_strategy": None}, "strategy is missing, which means 'default', expected 'full'"),
        ("", {"quantization_config": {}}, "quantization_config is"),
        ("", {"text_config": None}, "text_config.model_type is missing"),
        ("vision_config", {"hidden_act": None}, "hidden_act is missing, which means 'gelu', expected 'silu'"),
        ("vision_config", {"hidden_act": "gelu"}, "vision_config.hidden_act is 'gelu', expected 'silu'"),
        ("vision_config", {"model_type": "siglip_vision_model"}, "vision_config.model_type"),
        ("vision_config", {"num_channels": 1}, "vision_config.num_channels is 1, expected 3"),
        ("vision_config", {"image_size": [64, 64]}, "vision_config.image_size is"),
        ("vision_config", {"patch_size": 8}, "vision_config.patch_size is 8, but the weights say 4"),
        ("vision_config", {"num_attention_heads": 16}, "heads are 2 wide, expected a multiple of 4"),
        ("text_config", {"sliding_window": 100}, "text_config.sliding_window is 100"),
        ("text_config", {"attention_bias": True}, "text_config.attention_bias is True"),
    ],
)  # fmt: skip
def test_settings_that_are_not_pixtrals_are_named(tmp_path, section, change, text):
    settings = pixtral_settings(SMALL_PIXTRAL)
    (settings[section] if section else settings).update(change)
    with pytest.raises(CheckpointError, match=text):
        infer_pixtral(pixtral_shapes(), write(tmp_path, settings))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"moe": {"num_experts": 8}}, "moe is .* not known to this version"),
        ({"n_heads": None}, "n_heads is missing, expected a positive number"),
        ({"rope_theta": None}, "rope_theta is missing"),
        ({"head_dim": 16}, "head_dim is 16, but the weights say 8"),
        ({"hidden_dim": 41}, "hidden_dim is 41, but the weights say 40"),
        ({"vision_encoder": None}, "vision_encoder is missing, expected the settings"),
        ({"vision_encoder": {"spatial_merge_size": 2}}, "vision_encoder.spatial_merge_size is 2, expected 1"),
        ({"vision_encoder": {"max_tiles": 4}}, "vision_encoder.max_tiles is 4, not known"),
    ],
)
def test_settings_that_mistrals_pixtral_does_not_have_are_named(tmp_path, change, text):
    with pytest.raises(CheckpointError, match=text):
        infer_pixtral(pixtral_shapes(table=MISTRAL_TABLE), write(tmp_path, MISTRAL | change, "params.json"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model.embed_tokens.weight": None}, "model.embed_tokens.weight is missing"),
        ({"model.layers.0.self_attn.q_proj.weight": (24,)}, r"q_proj.weight has shape \(24,\), expected 2 axes"),
        ({"model.layers.0.self_attn.k_proj.weight": (20, 24)}, "20 is not a multiple of 8"),
        ({"model.layers.0.self_attn.k_proj.weight": (24, 24)}, "4 is not a multiple of 3"),
    ],
)
def test_impossible_shapes_are_named(tmp_path, change, text):
    shapes = {key: shape for key, shape in (llama_shapes(SMALL) | change).items() if shape}
    with pytest.raises(CheckpointError, match=text) as error:
        infer_llama(shapes, write(tmp_path, llama_settings(SMALL)))
    assert str(error.value).startswith(f"{tmp_path}: ")


def test_a_projector_of_another_language_model_is_refused(tmp_path):
    shapes = pixtral_shapes() | {"multi_modal_projector.linear_1.weight": (25, 32)}
    with pytest.raises(CheckpointError, match=r"projector writes 25 values .*embeddings are 24 wide"):
        infer_pixtral(shapes, write(tmp_path, pixtral_settings(SMALL_PIXTRAL)))


def test_without_settings_nothing_is_guessed(tmp_path):
    with pytest.raises(CheckpointError, match=r"lacks config.json, which tells .* put it beside"):
        infer_llama(llama_shapes(SMALL), tmp_path)
