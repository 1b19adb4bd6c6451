"""The networks that can be converted, a table: files, weight tables and architecture of each. A new one is an entry."""

from convert.architecture.exported_settings import llama_settings, pixtral_settings, siglip_settings
from convert.architecture.infer import infer_dit, infer_t5, infer_video_tokenizer
from convert.architecture.infer_language import infer_llama, infer_pixtral
from convert.architecture.infer_vision import infer_retinaface, infer_video_safety
from convert.networks.companions import AdapterFolder, Companion
from convert.networks.component import EXTRA_FOLDER, Component, WeightsFile
from convert.tables import decoder_lm, dit, pixtral, retinaface, safety_head, siglip, t5, video_tokenizer
from jax_interp.errors import UsageError
from jax_interp.models.decoder_lm import DecoderLM
from jax_interp.models.dit import DiT
from jax_interp.models.pixtral import Pixtral
from jax_interp.models.retinaface import RetinaFace
from jax_interp.models.safety_head import VideoSafety
from jax_interp.models.t5 import T5Encoder
from jax_interp.models.video_tokenizer.model import VideoTokenizer

POLICY_FILE = "policy.md"
"""The file among the tokenizer's that states a text guardrail's policy, where the chat template does not."""

DIFFUSION_TRANSFORMER = Component(
    name="diffusion_transformer",
    network=DiT,
    infer=infer_dit,
    sources=(WeightsFile(names=("model.pt", "model.safetensors"), exported="model.safetensors", post_trained=True),),
    rules=dit.RULES,
    ignored=dit.IGNORED,
)

TOKENIZER = Component(
    name="tokenizer",
    network=VideoTokenizer,
    infer=infer_video_tokenizer,
    sources=(
        WeightsFile(("encoder.jit", "encoder.safetensors"), "encoder.safetensors", keys=("encoder.", "quant_conv.")),
        WeightsFile(
            ("decoder.jit", "decoder.safetensors"), "decoder.safetensors", keys=("decoder.", "post_quant_conv.")
        ),
        WeightsFile(("mean_std.pt", "mean_std.safetensors"), "mean_std.safetensors", "mean_std.", ("mean_std.",)),
        WeightsFile(
            ("image_mean_std.pt", "image_mean_std.safetensors"),
            "image_mean_std.safetensors",
            "image_mean_std.",
            ("image_mean_std.",),
        ),
    ),
    rules=video_tokenizer.RULES,
    ignored=video_tokenizer.IGNORED,
)

TEXT_ENCODER = Component(
    name="text_encoder",
    network=T5Encoder,
    infer=infer_t5,
    sources=(WeightsFile(names=("model.safetensors", "pytorch_model.bin"), exported="model.safetensors"),),
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
        WeightsFile(("safety_filter.pt", "safety_filter.safetensors"), "safety_filter.safetensors", keys=("model.",)),
        WeightsFile(siglip.WEIGHTS, siglip.EXPORTED, keys=("vision_model.",)),
    ),
    rules=siglip.RULES + safety_head.RULES,
    ignored=siglip.IGNORED + safety_head.IGNORED,
    settings=siglip_settings,
)

FACE_BLUR = Component(
    name="face_blur",
    network=RetinaFace,
    infer=infer_retinaface,
    sources=(WeightsFile(("Resnet50_Final.pth", "Resnet50_Final.safetensors"), "Resnet50_Final.safetensors"),),
    rules=retinaface.RULES,
    ignored=retinaface.IGNORED,
)

PROMPT_UPSAMPLER = Component(
    name="prompt_upsampler",
    network=Pixtral,
    infer=infer_pixtral,
    sources=(
        WeightsFile(
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
    sources=(WeightsFile(("model.safetensors", "model.safetensors.index.json"), "model.safetensors"),),
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
    adapter=AdapterFolder(
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
    """Return the components called `names`, in the pipeline's order; all components if there is no name.

    Raises:
        UsageError: there is none of that name; lists those there are.
    """
    names = tuple(name.replace("-", "_") for name in names)
    unknown = [name for name in names if name not in COMPONENTS]
    if unknown:
        raise UsageError(f"--components: unknown {', '.join(unknown)}; there are {', '.join(COMPONENTS)}")
    return tuple(component for component in COMPONENTS.values() if not names or component.name in names)
