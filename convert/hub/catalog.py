"""The published files and where each belongs in a checkpoint folder; every repository is an entry of the table."""

from collections.abc import Collection
from dataclasses import dataclass

from jax_interp.components import TABLE
from jax_interp.errors import UsageError


@dataclass(frozen=True)
class Repository:
    """The files of one hub repository that this version reads; all of them are needed.

    Several repositories can fill the folder of one network.
    """

    repo_id: str
    folder: str
    """The folder where the files go, relative to the checkpoint folder (upstream's own layout)."""
    component: str
    files: tuple[str, ...]
    gated: bool
    """Whether the hub hands the files only to accounts that have accepted the terms."""
    size: str | None = None
    type: str | None = None
    """The type of the transformer; None for networks that every transformer needs."""
    revision: str = "main"
    """The branch, tag or commit that is fetched when neither the user nor an earlier download names one."""
    on_request: bool = False
    """Whether it is fetched only if its component is named: a run with the default settings does not need it."""

    @property
    def url(self) -> str:
        """The page where the terms are read and accepted."""
        return f"https://huggingface.co/{self.repo_id}"

    def path(self, name: str) -> str:
        """Return the path of the file `name`, relative to the checkpoint folder."""
        return f"{self.folder}/{name}"


def _transformer(size: str, type: str) -> Repository:
    name = f"Cosmos-Predict1-{size}-{type}"
    return Repository(f"nvidia/{name}", name, "diffusion_transformer", ("model.pt",), True, size, type)


_TOKENIZER, _T5, _LLAMA_GUARD = (TABLE[name].folder for name in ("tokenizer", "text_encoder", "text_safety"))
# `autoencoder.jit` beside these two holds both once more.
_TOKENIZER_FILES = ("encoder.jit", "decoder.jit", "mean_std.pt", "image_mean_std.pt")
# The repository has no safetensors; its `tf_model.h5` is the same 45 GB once more.
_T5_FILES = ("config.json", "pytorch_model.bin", "spiece.model", "tokenizer.json")
# Mistral publishes its tokenizer in a form of its own, hence the second repository.
_PIXTRAL = (TABLE["prompt_upsampler"].folder, "prompt_upsampler")
_CHAT_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
ALTERNATIVES = {"aegis": "text_safety"}
"""The component that each alternative is converted as; the alternative's own name is only for fetching it."""
_AEGIS = "nvidia/Aegis-AI-Content-Safety-LlamaGuard-Defensive-1.0"
# The model card has the policy that the classifier is asked about.
_AEGIS_FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")
# `punkt_tab.zip` beside the unpacked tables holds them once more.
_PUNKT = "nltk_data/tokenizers/punkt_tab/english"
_WORD_LISTS = (
    *("custom/blocklist", "exact_match/blocked", "whitelist/whitelisted", "nltk_data/corpora/wordnet.zip"),
    *(f"{_PUNKT}/{name}" for name in ("abbrev_types.txt", "collocations.tab")),
    *(f"{_PUNKT}/{name}" for name in ("ortho_context.tab", "sent_starters.txt")),
)


def _shards(count: int) -> tuple[str, ...]:
    parts = (f"model-{index + 1:05d}-of-{count:05d}.safetensors" for index in range(count))
    return ("model.safetensors.index.json", *parts)


def _text_guard(repo_id: str, component: str, shards: int, on_request: bool = False) -> Repository:
    files = (*_shards(shards), *_CHAT_FILES)
    return Repository(repo_id, repo_id, component, files, gated=True, on_request=on_request)


_GUARDRAILS = "nvidia/Cosmos-Guardrail1"
_VIDEO_SAFETY = TABLE["video_safety"].folder
_SIGLIP = "google/siglip-so400m-patch14-384"


def _guardrail(component: str, folder: str, names: tuple[str, ...]) -> Repository:
    """Return the repository entry for one folder of Cosmos-Guardrail1, which has a folder for each guardrail."""
    files = tuple(f"{folder.removeprefix(f'{_GUARDRAILS}/')}/{name}" for name in names)
    return Repository(_GUARDRAILS, _GUARDRAILS, component, files, gated=True)


TRANSFORMERS = (
    _transformer("7B", "WorldInterpolator"),
    _transformer("7B", "Video2World"),
    _transformer("14B", "Video2World"),
)
"""The published transformers that this version runs."""

REPOSITORIES: tuple[Repository, ...] = (
    *TRANSFORMERS,
    Repository(f"nvidia/{_TOKENIZER}", _TOKENIZER, "tokenizer", _TOKENIZER_FILES, gated=True),
    Repository(_T5, _T5, "text_encoder", _T5_FILES, gated=False),
    Repository(
        "mistralai/Pixtral-12B-2409", *_PIXTRAL, ("params.json", "consolidated.safetensors"), True, on_request=True
    ),
    Repository("mistral-community/pixtral-12b", *_PIXTRAL, ("tokenizer.json",), gated=False, on_request=True),
    _text_guard(_LLAMA_GUARD, "text_safety", 4),
    _guardrail("text_safety", "blocklist", _WORD_LISTS),
    _text_guard("meta-llama/LlamaGuard-7b", "aegis", 3, on_request=True),
    _guardrail("video_safety", _VIDEO_SAFETY, ("safety_filter.pt",)),
    Repository(
        _SIGLIP, f"{_VIDEO_SAFETY}/{_SIGLIP}", "video_safety", ("config.json", "model.safetensors"), gated=False
    ),
    _guardrail("face_blur", TABLE["face_blur"].folder, ("Resnet50_Final.pth",)),
    Repository(_AEGIS, _AEGIS, "aegis", _AEGIS_FILES, gated=False, on_request=True),
)

PUBLISHED_MD5: dict[str, str] = {
    "Cosmos-Predict1-7B-WorldInterpolator/model.pt": "48a0bdc99d5e41eee05ba8597c4851da",
    "Cosmos-Predict1-7B-Video2World/model.pt": "ebcdb19c4c4a6a0e1e0bb65e346f6867",
    "Cosmos-Predict1-14B-Video2World/model.pt": "eaa7aa3678f61d88108c41d7fe201b18",
    "Cosmos-Tokenize1-CV8x8x8-720p/mean_std.pt": "f07680ad7eefae57d698778e2a0c7c96",
    "Cosmos-Tokenize1-CV8x8x8-720p/image_mean_std.pt": "9f19fd3312fc1198e4905ada02e68bce",
    "google-t5/t5-11b/pytorch_model.bin": "f890878d8a162e0045a25196e27089a3",
}
"""The MD5 of each published file, by path relative to the checkpoint folder."""


def component_names(
    repositories: tuple[Repository, ...] = REPOSITORIES, *, on_request: bool = False
) -> tuple[str, ...]:
    """Return the components of `repositories` in order; with `on_request` only those that have to be named."""
    return tuple(dict.fromkeys(entry.component for entry in repositories if entry.on_request or not on_request))


def select(
    sizes: Collection[str],
    types: Collection[str],
    components: Collection[str] = (),
    repositories: tuple[Repository, ...] = REPOSITORIES,
) -> tuple[Repository, ...]:
    """Return the repositories to fetch: transformers of any of `sizes` and `types` with all they need, or `components`.

    If `components` are named, exactly those are returned.

    Raises:
        UsageError: a component is unknown, or a size or type is in no published combination; lists what exists.
    """
    known = component_names(repositories)
    components = [name.replace("-", "_") for name in components]
    unknown = [name for name in components if name not in known]
    if unknown:
        raise UsageError(f"--components: unknown {', '.join(unknown)}; there are {', '.join(known)}")
    transformers = [r for r in repositories if r.size and r.size in sizes and r.type in types]
    unmatched = [f"--model-sizes {size}" for size in sizes if size not in {r.size for r in transformers}]
    unmatched += [f"--model-types {type}" for type in types if type not in {r.type for r in transformers}]
    if unmatched:
        published = ", ".join(f"{r.size} {r.type}" for r in repositories if r.size)
        raise UsageError(f"nothing is published for {' and '.join(unmatched)} as asked; there are {published}")
    return tuple(
        repository
        for repository in repositories
        if (repository in transformers or not repository.size)
        and (repository.component in components if components else not repository.on_request)
    )
