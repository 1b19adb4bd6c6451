"""Weight tables of Pixtral: Hugging Face's files, in two spellings, Mistral's own, and upstream's `model.pt`."""

from functools import partial

from convert.mapping.ops import Op, halved_pairs, picture_patches, transpose
from convert.mapping.rules import Ignored, Rule, Table
from convert.tables import decoder_lm
from jax_interp.config import PixtralConfig

LANGUAGE, VISION = "language/", "vision/"


def _hugging_face(language: str, head: str, beside: str, config: PixtralConfig | None = None) -> tuple[Rule, ...]:
    """`beside` comes before the keys of what is not the language model. The configuration makes no difference."""
    tower = f"{beside}vision_tower."
    layer, block = f"{tower}transformer.layers.{{layer}}", f"{VISION}blocks"
    return (
        *decoder_lm.hugging_face(language, head, LANGUAGE),
        *_tower(tower, "q_proj k_proj v_proj o_proj", transpose),
        Rule(f"{layer}.feed_forward.gate_proj.weight", f"{block}/mlp/gate/kernel", transpose),
        Rule(f"{layer}.feed_forward.up_proj.weight", f"{block}/mlp/up/kernel", transpose),
        Rule(f"{layer}.feed_forward.down_proj.weight", f"{block}/mlp/down/kernel", transpose),
        *_projector(f"{beside}multi_modal_projector.linear_1", f"{beside}multi_modal_projector.linear_2"),
    )


def _mistral(language: str, tower: str, up: str, out: str, config: PixtralConfig) -> tuple[Rule, ...]:
    """Queries and keys of both networks have neighbours as rotary pairs."""
    layer, block = f"{tower}transformer.layers.{{layer}}", f"{VISION}blocks"
    return (
        *decoder_lm.mistral(config.text.head_width, language, LANGUAGE),
        *_tower(tower, "wq wk wv wo", halved_pairs(config.vision.head_width)),
        Rule(f"{layer}.feed_forward.w1.weight", f"{block}/mlp/gate/kernel", transpose),
        Rule(f"{layer}.feed_forward.w3.weight", f"{block}/mlp/up/kernel", transpose),
        Rule(f"{layer}.feed_forward.w2.weight", f"{block}/mlp/down/kernel", transpose),
        *_projector(up, out),
    )


def _tower(tower: str, attention: str, turned: Op) -> tuple[Rule, ...]:
    """Return the rules of the picture encoder that all kinds spell alike, with its linear layers in `attention`."""
    query, key, value, out = (f"{tower}transformer.layers.{{layer}}.attention.{name}" for name in attention.split())
    layer, block = f"{tower}transformer.layers.{{layer}}", f"{VISION}blocks"
    return (
        Rule(f"{tower}patch_conv.weight", f"{VISION}patch_embedding/kernel", picture_patches),
        Rule(f"{tower}ln_pre.weight", f"{VISION}input_norm/scale"),
        Rule(f"{layer}.attention_norm.weight", f"{block}/attention_norm/scale"),
        Rule(f"{query}.weight", f"{block}/attention/query/kernel", turned),
        Rule(f"{key}.weight", f"{block}/attention/key/kernel", turned),
        Rule(f"{value}.weight", f"{block}/attention/value/kernel", transpose),
        Rule(f"{out}.weight", f"{block}/attention/out/kernel", transpose),
        Rule(f"{layer}.ffn_norm.weight", f"{block}/mlp_norm/scale"),
    )


def _projector(up: str, out: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{up}.weight", f"{VISION}projector/up/kernel", transpose),
        Rule(f"{up}.bias", f"{VISION}projector/up/bias"),
        Rule(f"{out}.weight", f"{VISION}projector/out/kernel", transpose),
        Rule(f"{out}.bias", f"{VISION}projector/out/bias"),
    )


# The language model's prefix, its head's key and the prefix of the rest.
_PUBLISHED = "language_model.model.", "language_model.lm_head.weight", ""
_NEWER = "model.language_model.", "lm_head.weight", "model."
# The prefixes of the language model and of the tower, and the linears of the projector.
_MISTRAL = "", "vision_encoder.", "vision_language_adapter.w_in", "vision_language_adapter.w_out"
_UPSTREAM = "model.model.", "model.vision_encoder.", "model.mm_projector.projector.0", "model.mm_projector.projector.2"

RULES = _hugging_face(*_PUBLISHED)
"""The rules for `mistral-community/pixtral-12b`, which is also what `export` writes."""

IGNORED = decoder_lm.hugging_face_ignored(_PUBLISHED[0])

OTHER_TABLES = (
    Table(
        mark="model.language_model.",
        rules=partial(_hugging_face, *_NEWER),
        ignored=decoder_lm.hugging_face_ignored(_NEWER[0]),
    ),
    Table(mark="vision_language_adapter.", rules=partial(_mistral, *_MISTRAL)),
    Table(
        mark="model.mm_projector.",
        rules=partial(_mistral, *_UPSTREAM),
        ignored=(
            Ignored("vision_encoder.*", "copy of model.vision_encoder.*"),
            Ignored("mm_projector.*", "copy of model.mm_projector.*"),
        ),
    ),
)
"""Hugging Face's newer spelling, Mistral's `consolidated.safetensors` and upstream's `model.pt`."""
