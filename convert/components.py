"""The networks that can be converted: files, weight table and architecture of each. A new one is one more entry."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from convert.companions import Adapter, Companion
from convert.describe_language import llama_settings, pixtral_settings
from convert.infer import infer_dit, infer_t5, infer_tokenizer
from convert.infer_language import infer_llama, infer_pixtral
from convert.infer_vision import infer_retinaface, infer_video_safety, siglip_settings
from convert.matching import Leaf, plan
from convert.rules import Ignored, Rule, Table, find_table
from convert.sizes import Shapes
from convert.tables import decoder_lm, dit, pixtral, retinaface, safety_head, siglip, t5, tokenizer
from jax_interp.errors import UsageError
from jax_interp.models.decoder_lm import DecoderLM
from jax_interp.models.dit import DiT
from jax_interp.models.pixtral import Pixtral
from jax_interp.models.retinaface import RetinaFace
from jax_interp.models.safety_head import VideoSafety
from jax_interp.models.t5 import T5Encoder
from jax_interp.models.tokenizer import Tokenizer
from jax_interp.nn.params import Network
from jax_interp.runtime.checkpoint import DEFAULT_FOLDERS
from jax_interp.types import Params


@dataclass(frozen=True)
class Source:
    """One file that a network is read from."""

    names: tuple[str, ...]
    """Spellings under which it may lie in the folder, as `locating.find_file` takes them; the first that is there is
    read."""
    exported: str
    """The name, one of `names`, under which `export` writes it."""
    prefix: str = ""
    """What is put before the file's keys, so that keys of several files cannot be confused."""
    keys: tuple[str, ...] = ("",)
    """Beginnings of the (prefixed) keys that `export` writes to this file."""
    post_trained: bool = False
    """Whether post-training writes it with two sets of weights, of which one is chosen."""


@dataclass(frozen=True)
class Component:
    """A network of the pipeline as it lies in upstream's checkpoint folder."""

    name: str
    network: Callable[..., Any]
    """The class, taking (config, dtype=, rngs=)."""
    infer: Callable[[Shapes, Path], Any]
    """Its configuration from the shapes in its files, and the folder for messages and settings beside them."""
    sources: tuple[Source, ...]
    rules: tuple[Rule, ...]
    ignored: tuple[Ignored, ...]
    other_tables: tuple[Table, ...] = ()
    """Other spellings of the keys that are read; `rules` and `ignored` are those of what `export` writes."""
    settings: Callable[[Any], dict[str, Any]] | None = None
    """What `export` writes to `config.json` for a configuration, if shapes do not tell all of it."""
    required_files: tuple[str, ...] = ()
    """Files that are not weights and are copied as they are, to `EXTRA_FOLDER`."""
    optional_files: tuple[str, ...] = ()
    """The same, if they are there."""
    origin_of_required: str = ""
    """Where to get `required_files` if the weights come without them."""

    companion: Companion | None = None
    """A folder of files that are copied along."""
    adapter: Adapter | None = None
    """What is merged into the weights if they are those that it was trained on."""

    @property
    def folder(self) -> str:
        """Upstream's folder of it, relative to the checkpoint folder."""
        return DEFAULT_FOLDERS[self.name]

    @property
    def flag(self) -> str:
        """The option that names another folder."""
        return f"--{self.name.replace('_', '-')}-dir"

    def abstract(self, config: Any) -> Params:
        """The parameter tree of the network without its arrays; dtypes say nothing."""
        return Network(lambda rngs: self.network(config, dtype=jnp.float32, rngs=rngs)).abstract

    def table(self, keys: Collection[str] = ()) -> Table:
        """How a checkpoint with these keys spells them; without any, one that `export` writes."""
        own = Table(mark="", rules=lambda config: self.rules, ignored=self.ignored)
        return find_table(self.other_tables, keys) or own

    def plan(self, config: Any, keys: Collection[str] = ()) -> tuple[Leaf, ...]:
        """What each array of the network is made of in a checkpoint with `keys`, or where `export` writes it."""
        return plan(self.table(keys).rules(config), self.abstract(config))


EXTRA_FOLDER = "tokenizer"
"""Where a converted folder keeps the files of a text tokenizer."""

POLICY_FILE = "policy.md"
"""Among these, the text that tells a text guardrail what is unsafe, if it is not the one of its chat template."""

DIFFUSION_TRANSFORMER = Component(
    name="diffusion_transformer",
    network=DiT,
    infer=infer_dit,
    sources=(Source(names=("model.pt", "model.safetensors"), exported="model.safetensors", post_trained=True),),
    rules=dit.RULES,
    ignored=dit.IGNORED,
)

TOKENIZER = Component(
    name="tokenizer",
    network=Tokenizer,
    infer=infer_tokenizer,
    sources=(
        Source(("encoder.jit", "encoder.safetensors"), "encoder.safetensors", keys=("encoder.", "quant_conv.")),
        Source(("decoder.jit", "decoder.safetensors"), "decoder.safetensors", keys=("decoder.", "post_quant_conv.")),
        Source(("mean_std.pt", "mean_std.safetensors"), "mean_std.safetensors", "mean_std.", ("mean_std.",)),
        Source(
            ("image_mean_std.pt", "image_mean_std.safetensors"),
            "image_mean_std.safetensors",
            "image_mean_std.",
            ("image_mean_std.",),
        ),
    ),
    rules=tokenizer.RULES,
    ignored=tokenizer.IGNORED,
)

TEXT_ENCODER = Component(
    name="text_encoder",
    network=T5Encoder,
    infer=infer_t5,
    sources=(
        Source(
            names=(
                "model.safetensors",
                "model.safetensors.index.json",
                "pytorch_model.bin",
                "pytorch_model.bin.index.json",
            ),
            exported="model.safetensors",
        ),
    ),
    rules=t5.RULES,
    ignored=t5.IGNORED,
    required_files=("tokenizer.json",),
    optional_files=("spiece.model", "tokenizer_config.json", "special_tokens_map.json"),
)

VIDEO_SAFETY = Component(
    name="video_safety",
    network=VideoSafety,
    infer=infer_video_safety,
    sources=(
        Source(("safety_filter.pt", "safety_filter.safetensors"), "safety_filter.safetensors", keys=("model.",)),
        Source(siglip.WEIGHTS, siglip.EXPORTED, keys=("vision_model.",)),
    ),
    rules=siglip.RULES + safety_head.RULES,
    ignored=siglip.IGNORED + safety_head.IGNORED,
    settings=siglip_settings,
)

FACE_BLUR = Component(
    name="face_blur",
    network=RetinaFace,
    infer=infer_retinaface,
    sources=(Source(("Resnet50_Final.pth", "Resnet50_Final.safetensors"), "Resnet50_Final.safetensors"),),
    rules=retinaface.RULES,
    ignored=retinaface.IGNORED,
)

PROMPT_UPSAMPLER = Component(
    name="prompt_upsampler",
    network=Pixtral,
    infer=infer_pixtral,
    sources=(
        Source(
            names=("model.pt", "consolidated.safetensors", "model.safetensors", "model.safetensors.index.json"),
            exported="model.safetensors",
        ),
    ),
    rules=pixtral.RULES,
    ignored=pixtral.IGNORED,
    other_tables=pixtral.OTHER_TABLES,
    settings=pixtral_settings,
    required_files=("tokenizer.json",),
    optional_files=("tokenizer_config.json", "special_tokens_map.json"),
    origin_of_required="mistral-community/pixtral-12b on the hub",
)

TEXT_SAFETY = Component(
    name="text_safety",
    network=DecoderLM,
    infer=infer_llama,
    sources=(Source(("model.safetensors", "model.safetensors.index.json"), "model.safetensors"),),
    rules=decoder_lm.hugging_face(),
    ignored=decoder_lm.hugging_face_ignored(),
    settings=llama_settings,
    required_files=("tokenizer.json", "tokenizer_config.json"),
    optional_files=("special_tokens_map.json", "generation_config.json", "chat_template.jinja", POLICY_FILE),
    companion=Companion(
        folder="nvidia/Cosmos-Guardrail1/blocklist",
        into="blocklist",
        files=(
            *("custom/*", "whitelist/*", "exact_match/*", "nltk_data/corpora/wordnet.zip"),
            *(
                f"nltk_data/tokenizers/punkt_tab/english/{name}"
                for name in ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt")
            ),
        ),
    ),
    adapter=Adapter(
        folder="nvidia/Aegis-AI-Content-Safety-LlamaGuard-Defensive-1.0",
        base="LlamaGuard-7b",
        copied={"README.md": f"{EXTRA_FOLDER}/{POLICY_FILE}"},
    ),
)

COMPONENTS = {
    component.name: component
    for component in (
        DIFFUSION_TRANSFORMER,
        TOKENIZER,
        TEXT_ENCODER,
        PROMPT_UPSAMPLER,
        TEXT_SAFETY,
        VIDEO_SAFETY,
        FACE_BLUR,
    )
}


def named(names: tuple[str, ...]) -> tuple[Component, ...]:
    """The components called `names`, in the pipeline's order; all of them for no name.

    Raises:
        UsageError: there is none of that name; lists those there are.
    """
    names = tuple(name.replace("-", "_") for name in names)
    unknown = [name for name in names if name not in COMPONENTS]
    if unknown:
        raise UsageError(f"--components: unknown {', '.join(unknown)}; there are {', '.join(COMPONENTS)}")
    return tuple(component for component in COMPONENTS.values() if not names or component.name in names)
