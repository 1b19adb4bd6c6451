"""The architecture of language models: sizes from the shapes in a checkpoint, the rest from the settings beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from convert.architecture.language_settings import (
    HUGGING_FACE_SIZES,
    MISTRAL_SIZES,
    VISION_SIZES,
    check_llava,
    hugging_face_decoder,
    mistral_decoder,
    mistral_vision,
    vision_encoder,
)
from convert.architecture.settings import CheckpointSettings
from convert.architecture.sizes import Shapes, Sizes
from convert.mapping.rules import Rule, find_table
from convert.tables import decoder_lm, pixtral
from jax_interp.config import PIXTRAL_12B, DecoderConfig, PixtralConfig, PixtralVisionConfig
from jax_interp.errors import CheckpointError

Names = Mapping[str, str]
"""The checkpoint key of every path of the parameter tree."""


def infer_llama(shapes: Shapes, folder: Path) -> DecoderConfig:
    """Return the configuration of a Llama or Mistral model from Hugging Face's keys and `folder`'s `config.json`.

    Raises:
        CheckpointError: a key that tells a size is missing or of an impossible shape, or `config.json` is missing,
            contradicts the weights, or asks for what the network does not do; names every entry of one kind.
    """
    settings = CheckpointSettings.read(folder, ("config.json",))
    known = hugging_face_decoder(settings)
    settings.check()
    config = _decoder(known, _names(decoder_lm.hugging_face()), shapes, folder)
    settings.agree(_entries(config, HUGGING_FACE_SIZES))
    settings.check()
    return config


def infer_pixtral(shapes: Shapes, folder: Path) -> PixtralConfig:
    """Return Pixtral's configuration from keys of any of its kinds of checkpoint and the JSON settings in `folder`.

    Raises:
        CheckpointError: as `infer_llama`.
    """
    table = find_table(pixtral.OTHER_TABLES, shapes)
    # The names are those of every size.
    names = _names(table.rules(PIXTRAL_12B) if table else pixtral.RULES)
    files = ("config.json", "params.json")
    settings = CheckpointSettings.read(
        folder, files[::-1] if table and table.mark == "vision_language_adapter." else files
    )
    if settings.has("dim"):
        text, vision, sizes = settings, mistral_vision(settings), MISTRAL_SIZES
        known = mistral_decoder(settings)
    else:
        text, vision, sizes = settings.section("text_config"), settings.section("vision_config"), HUGGING_FACE_SIZES
        check_llava(settings, vision)
        known = hugging_face_decoder(text)
        known = replace(known, tied_head=known.tied_head or settings.flag("tie_word_embeddings"))
    seen = vision_encoder(vision)
    settings.check()
    config = PixtralConfig(
        text=_decoder(known, names, shapes, folder, pixtral.LANGUAGE), vision=_vision(seen, names, shapes, folder)
    )
    if config.vision.text_width != config.text.width:
        raise CheckpointError(
            f"{folder}: the projector writes {config.vision.text_width} values for each patch, but the language model's"
            f" embeddings are {config.text.width} wide; the files are of two models: download them again"
        )
    text.agree(_entries(config.text, sizes))
    vision.agree(_entries(config.vision, VISION_SIZES))
    settings.check()
    return config


def _decoder(known: DecoderConfig, names: Names, shapes: Shapes, folder: Path, into: str = "") -> DecoderConfig:
    """Return `known` with the sizes that shapes tell; `into` comes before the paths of its parameters."""
    sizes, blocks = Sizes(shapes, folder), f"{into}blocks"
    vocab_size, width = sizes.of(names[f"{into}embedding"], 2)
    inner, _ = sizes.of(_first(names[f"{blocks}/attention/query/kernel"]), 2)
    shared, _ = sizes.of(_first(names[f"{blocks}/attention/key/kernel"]), 2)
    mlp_width, _ = sizes.of(_first(names[f"{blocks}/mlp/up/kernel"]), 2)
    num_layers = sizes.count(_any(names[f"{blocks}/mlp/up/kernel"]))
    sizes.check()
    head_width = sizes.quotient(inner, known.num_heads, "queries have rows of all heads that the settings state")
    num_kv_heads = sizes.quotient(shared, head_width, "keys have rows of whole heads")
    sizes.quotient(known.num_heads, num_kv_heads, "every head of keys serves as many heads of queries")
    _check_head_width(head_width, 2, folder)
    return replace(
        known,
        vocab_size=vocab_size,
        width=width,
        num_layers=num_layers,
        num_kv_heads=num_kv_heads,
        head_width=head_width,
        mlp_width=mlp_width,
        # Some files hold a copy of the embedding as the head; then it is one of its own.
        tied_head=known.tied_head and names[f"{into}head/kernel"] not in shapes,
    )


def _vision(known: PixtralVisionConfig, names: Names, shapes: Shapes, folder: Path) -> PixtralVisionConfig:
    sizes, blocks = Sizes(shapes, folder), f"{pixtral.VISION}blocks"
    width, _, patch_size, _ = sizes.of(names[f"{pixtral.VISION}patch_embedding/kernel"], 4)
    inner, _ = sizes.of(_first(names[f"{blocks}/attention/query/kernel"]), 2)
    mlp_width, _ = sizes.of(_first(names[f"{blocks}/mlp/up/kernel"]), 2)
    text_width, _ = sizes.of(names[f"{pixtral.VISION}projector/up/kernel"], 2)
    num_layers = sizes.count(_any(names[f"{blocks}/mlp/up/kernel"]))
    sizes.check()
    head_width = sizes.quotient(inner, known.num_heads, "the picture encoder's queries have rows of all its heads")
    _check_head_width(head_width, 4, folder)
    return replace(
        known,
        width=width,
        num_layers=num_layers,
        head_width=head_width,
        mlp_width=mlp_width,
        text_width=text_width,
        patch_size=patch_size,
    )


def _check_head_width(head_width: int, divisor: int, folder: Path) -> None:
    if head_width % divisor:
        raise CheckpointError(
            f"{folder}: heads are {head_width} wide, expected a multiple of {divisor}: rotary positions turn pairs"
        )


def _names(rules: Sequence[Rule]) -> Names:
    return {rule.dst: rule.src for rule in rules}


def _first(name: str) -> str:
    return name.replace("{layer}", "0")


def _any(name: str) -> str:
    """Return the pattern of every key of a layer, for `Sizes.count`."""
    return name.partition("{layer}")[0] + "{}.*"


def _entries(config: object, names: Mapping[str, str]) -> dict[str, object]:
    return {entry: getattr(config, field) for entry, field in names.items()}
