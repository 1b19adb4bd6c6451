"""The table of the stage class that runs each network: a memory plan reads it where no network has been opened yet."""

from collections.abc import Mapping
from typing import Any

from jax_interp.components import TABLE
from jax_interp.config import Precision, Quantization
from jax_interp.pipeline.memory.footprint import Stage
from jax_interp.pipeline.memory.plan import PlannedNetwork
from jax_interp.pipeline.prompt.prompt_upsampler import PictureEncoder
from jax_interp.pipeline.prompt.text import PromptNetwork
from jax_interp.pipeline.safety.video_guard import FaceGuard, FrameGuard
from jax_interp.pipeline.stages.codec import Codec
from jax_interp.pipeline.stages.denoiser import Denoiser
from jax_interp.pipeline.stages.language_model import LanguageModel

STAGE_CLASSES: Mapping[str, Stage] = {
    "diffusion_transformer": Denoiser,
    "tokenizer": Codec,
    "text_encoder": PromptNetwork,
    "prompt_upsampler/pictures": PictureEncoder,
    "prompt_upsampler/language": LanguageModel,
    "guardrail_models/text_safety": LanguageModel,
    "guardrail_models/video_safety": FrameGuard,
    "guardrail_models/face_blur": FaceGuard,
}
"""The class of the stage by network, under the names of `components.ComponentRow.plan_names`."""


def planned(
    component: str, config: Any, precision: Precision, quantization: Quantization = "none"
) -> dict[str, PlannedNetwork]:
    """Return the networks of a component as `pipeline.memory.plan.Planner` takes them; `config` is the component's."""
    configs = TABLE[component].plan_configs(config)
    quantization = TABLE[component].runs_in(quantization)
    stages = {name: STAGE_CLASSES[name] for name in configs}
    return {
        name: PlannedNetwork(stage, configs[name], precision, quantization if stage.QUANTIZES else "none")
        for name, stage in stages.items()
    }
