"""What the hub publishes and where each file lies in a checkpoint folder. Data only: adding a network is adding a line."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Repository:
    """The files of one hub repository that this version reads; all of them are needed.

    `size` and `type` are set for diffusion transformers, of which the user picks; everything else is always fetched.
    """

    repo_id: str
    folder: str
    """Where the files go, relative to the checkpoint folder (upstream's own layout)."""
    component: str
    files: tuple[str, ...]
    size: str | None = None
    type: str | None = None
    revision: str = "main"
    """Branch, tag or commit that is fetched when neither the user nor an earlier download names one."""

    @property
    def url(self) -> str:
        """The page where the terms are read and accepted."""
        return f"https://huggingface.co/{self.repo_id}"


def _dit(size: str, type: str) -> Repository:
    name = f"Cosmos-Predict1-{size}-{type}"
    return Repository(f"nvidia/{name}", name, "dit", ("model.pt",), size, type)


TOKENIZER_FILES = ("encoder.jit", "decoder.jit", "mean_std.pt", "image_mean_std.pt")
# The repository also holds `tf_model.h5`, the same 45 GB once more, and has no safetensors.
T5_FILES = ("config.json", "pytorch_model.bin", "spiece.model", "tokenizer.json")

REPOSITORIES: tuple[Repository, ...] = (
    _dit("7B", "WorldInterpolator"),
    _dit("7B", "Video2World"),
    _dit("14B", "Video2World"),
    Repository("nvidia/Cosmos-Tokenize1-CV8x8x8-720p", "Cosmos-Tokenize1-CV8x8x8-720p", "tokenizer", TOKENIZER_FILES),
    Repository("google-t5/t5-11b", "google-t5/t5-11b", "t5", T5_FILES),
)

PUBLISHED_MD5: dict[str, str] = {
    "Cosmos-Predict1-7B-WorldInterpolator/model.pt": "48a0bdc99d5e41eee05ba8597c4851da",
    "Cosmos-Predict1-7B-Video2World/model.pt": "ebcdb19c4c4a6a0e1e0bb65e346f6867",
    "Cosmos-Predict1-14B-Video2World/model.pt": "eaa7aa3678f61d88108c41d7fe201b18",
    "Cosmos-Tokenize1-CV8x8x8-720p/mean_std.pt": "f07680ad7eefae57d698778e2a0c7c96",
    "Cosmos-Tokenize1-CV8x8x8-720p/image_mean_std.pt": "9f19fd3312fc1198e4905ada02e68bce",
    "google-t5/t5-11b/pytorch_model.bin": "f890878d8a162e0045a25196e27089a3",
}
"""MD5 of the published files, by path relative to the checkpoint folder."""
