"""The table of networks: one row each, with every fact about a network that several rooms need.

It imports no JAX, so that the command line can read it before anything is loaded. A room that needs something of its
own for every network (a stage's class, a weight table) has a small table whose keys are the names in this one;
`tests/test_components.py` holds all of those complete, and docs/architecture.md says how a network is added.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from jax_interp.config import (
    CV8X8X8_720P,
    DIT_7B,
    DIT_14B,
    LLAMA_2_7B,
    LLAMA_3_1_8B,
    PIXTRAL_12B,
    RETINAFACE_RESNET50,
    T5_11B,
    VIDEO_SAFETY,
    DecoderConfig,
    DiTConfig,
    NetworkConfig,
    PixtralConfig,
    Precision,
    Quantization,
    RetinaFaceConfig,
    T5Config,
    VideoSafetyConfig,
    VideoTokenizerConfig,
)

GUARDRAIL_MODELS = "guardrail_models"
"""The name by which all networks of the guardrails are placed."""

PLACEMENT_NAMES = ("prompt_upsampler", GUARDRAIL_MODELS, "text_encoder", "tokenizer", "diffusion_transformer")
"""Every name by which networks are placed, in the order in which upstream offloads them."""

TransformerType: TypeAlias = Literal["WorldInterpolator", "Video2World"]
"""What a diffusion transformer was trained for. Both types have the same arrays, so that only names tell them apart."""


def transformer_type(folder: str) -> TransformerType | None:
    """Return the type of the transformer in a folder of that name; None if the name does not tell.

    `Cosmos-Predict1-14B-Video2World` is an example of a name that does.
    """
    plain = re.sub("[^a-z0-9]", "", folder.lower())
    found = [name for name in get_args(TransformerType) if name.lower() in plain]
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True, kw_only=True)
class ComponentRow:
    """The facts about one network of the pipeline."""

    name: str
    """Its name in `--components`, converted folders and run records."""
    title: str
    """Its name in the help of options."""
    folder: str
    """Upstream's name of its folder, in checkpoint folders and in converted ones."""
    config: type
    """The class of its configuration."""
    released: Mapping[str, NetworkConfig]
    """The published configurations that this version knows; the first one is that of a default download."""
    precision: Precision
    """The dtype that it computes in, unless the option `precision_flag` sets another one."""
    precision_flag: str | None
    """The option, as `--dtype`, that sets the dtype it computes in; None if that is fixed."""
    placed_as: str
    """The name, one of `PLACEMENT_NAMES`, by which it is placed."""
    used: Literal["always", "if there", "on request"]
    """Whether every run needs it, a run uses it where it was converted, or only where the user asks for it."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """The names of the networks that are stored as this one, each with the configuration field that describes it."""
    quantizes: bool = False
    """Whether it can run with its large products, or keep its large weights, in 8 bits."""
    rotates: bool = False
    """Whether products of integers are what is in 8 bits, whose inputs can be rotated; weights alone gain nothing."""
    smooths: bool = False
    """Whether a calibration can choose factors for the input channels of its products (`pipeline.calibration`)."""
    hides_damage: bool = False
    """Whether its verdicts do not show that its weights are damaged: activations turn minus infinity into zero, and
    where a layer is dead no face is found and every frame is safe."""

    @property
    def flag(self) -> str:
        """The option that chooses among several converted ones, as `--text-encoder-dir`."""
        return f"--{self.name.replace('_', '-')}-dir"

    @property
    def is_guardrail(self) -> bool:
        """Whether it belongs to the guardrails, which run on one device and can be disabled."""
        return self.placed_as == GUARDRAIL_MODELS

    @property
    def plan_names(self) -> tuple[str, ...]:
        """The names of its networks in memory plans.

        These are the name by which it is placed, followed by a network's own name where several share a placement, as
        `("tokenizer",)`, `("guardrail_models/face_blur",)` or
        `("prompt_upsampler/pictures", "prompt_upsampler/language")`.
        """
        if self.parts:
            return tuple(f"{self.placed_as}/{part}" for part in self.parts)
        return (self.name if self.placed_as == self.name else f"{self.placed_as}/{self.name}",)

    def runs_in(self, wanted: Quantization) -> Quantization:
        """Return the quantisation with which it runs, or is stored, where `wanted` is asked for."""
        if not self.quantizes:
            return "none"
        suits = {"none": True, "int8": True, "int8-rotated": self.rotates, "int8-smoothed": self.smooths}
        return wanted if suits[wanted] else "int8"

    def released_as(self, size: str) -> NetworkConfig:
        """Return the published configuration of `size`, as "14B", or the first one if there is none of that size."""
        return self.released.get(size) or next(iter(self.released.values()))

    def plan_configs(self, config: Any) -> dict[str, Any]:
        """Return the configuration of each of its networks by its name in plans; `config` is that of the component."""
        configs = [getattr(config, name) for name in self.parts.values()] or [config]
        return dict(zip(self.plan_names, configs, strict=True))


def placement_name(plan_name: str) -> str:
    """Return the one of `PLACEMENT_NAMES` by which the network is placed that plans call `plan_name`."""
    return plan_name.split("/")[0]


_ROWS = (
    ComponentRow(
        name="diffusion_transformer",
        title="transformer",
        folder="Cosmos-Predict1-7B-WorldInterpolator",
        config=DiTConfig,
        released={"7B": DIT_7B, "14B": DIT_14B},
        precision="bfloat16",
        precision_flag="--dtype",
        placed_as="diffusion_transformer",
        used="always",
        quantizes=True,
        rotates=True,
        smooths=True,
    ),
    ComponentRow(
        name="tokenizer",
        title="tokenizer",
        folder="Cosmos-Tokenize1-CV8x8x8-720p",
        config=VideoTokenizerConfig,
        released={"CV8x8x8-720p": CV8X8X8_720P},
        precision="bfloat16",
        precision_flag="--dtype",
        placed_as="tokenizer",
        used="always",
    ),
    ComponentRow(
        name="text_encoder",
        title="text encoder",
        folder="google-t5/t5-11b",
        config=T5Config,
        released={"t5-11b": T5_11B},
        precision="float32",  # parity: upstream's runs in float32 whatever the others do
        precision_flag="--text-encoder-dtype",
        placed_as="text_encoder",
        used="if there",
        quantizes=True,
        rotates=True,
    ),
    ComponentRow(
        name="prompt_upsampler",
        title="prompt upsampler",
        folder="Pixtral-12B",
        config=PixtralConfig,
        released={"Pixtral-12B": PIXTRAL_12B},
        precision="bfloat16",
        precision_flag="--dtype",
        placed_as="prompt_upsampler",
        used="on request",
        quantizes=True,
        parts={"pictures": "vision", "language": "text"},
    ),
    ComponentRow(
        name="text_safety",
        title="classifier of prompts",
        folder="meta-llama/Llama-Guard-3-8B",
        config=DecoderConfig,
        released={"Llama-Guard-3-8B": LLAMA_3_1_8B, "LlamaGuard-7b": LLAMA_2_7B},
        precision="bfloat16",  # parity: upstream's classifier is
        precision_flag=None,
        placed_as=GUARDRAIL_MODELS,
        used="if there",
        quantizes=True,
    ),
    ComponentRow(
        name="video_safety",
        title="classifier of frames",
        folder="nvidia/Cosmos-Guardrail1/video_content_safety_filter",
        config=VideoSafetyConfig,
        released={"video_content_safety_filter": VIDEO_SAFETY},
        precision="float32",
        precision_flag=None,
        placed_as=GUARDRAIL_MODELS,
        used="if there",
        hides_damage=True,
    ),
    ComponentRow(
        name="face_blur",
        title="face detector",
        folder="nvidia/Cosmos-Guardrail1/face_blur_filter",
        config=RetinaFaceConfig,
        released={"face_blur_filter": RETINAFACE_RESNET50},
        precision="float32",
        precision_flag=None,
        placed_as=GUARDRAIL_MODELS,
        used="if there",
        hides_damage=True,
    ),
)

TABLE: Mapping[str, ComponentRow] = {row.name: row for row in _ROWS}
"""Every network by its name, in the pipeline's order."""

TRANSFORMER_FOLDERS: Mapping[TransformerType, str] = {
    "WorldInterpolator": TABLE["diffusion_transformer"].folder,
    "Video2World": "Cosmos-Predict1-7B-Video2World",
}
"""Upstream's folder of the transformer that is taken by default, by type."""
