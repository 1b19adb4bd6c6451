"""Generative video frame interpolation in JAX: the public surface.

`Interpolator` runs the pipeline on frames, and `generate` makes the files of a `GenerateRequest`. Names are imported
when first used, so that `import jax_interp` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jax_interp._version import __version__

if TYPE_CHECKING:
    from jax_interp.config import CV8X8X8_720P, DIT_7B, DIT_14B, T5_11B, DiTConfig, T5Config, TokenizerConfig
    from jax_interp.diffusion.settings import SampleSettings
    from jax_interp.errors import Blocked, JaxInterpError
    from jax_interp.pipeline.interpolator import InterpolatedPair, Interpolation, Interpolator
    from jax_interp.pipeline.jobs.generate import generate
    from jax_interp.pipeline.memory.settings import MemorySettings
    from jax_interp.pipeline.prompt.embeddings import load_embeddings, save_embeddings
    from jax_interp.pipeline.prompt.prompts import DEFAULT_NEGATIVE_PROMPT
    from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
    from jax_interp.pipeline.requests.request import GenerateRequest, Job
    from jax_interp.pipeline.requests.settings import DeviceSettings, NetworkSettings, ProcessSettings
    from jax_interp.pipeline.safety.settings import GuardrailSettings
    from jax_interp.pipeline.settings import InterpolationSettings
    from jax_interp.runtime.placement import Placement

_HOME = {
    "GenerateRequest": "jax_interp.pipeline.requests.request",
    "Job": "jax_interp.pipeline.requests.request",
    "generate": "jax_interp.pipeline.jobs.generate",
    "NetworkSettings": "jax_interp.pipeline.requests.settings",
    "DeviceSettings": "jax_interp.pipeline.requests.settings",
    "ProcessSettings": "jax_interp.pipeline.requests.settings",
    "GuardrailSettings": "jax_interp.pipeline.safety.settings",
    "MemorySettings": "jax_interp.pipeline.memory.settings",
    "UpsamplerSettings": "jax_interp.pipeline.prompt.upsampler_settings",
    "Interpolator": "jax_interp.pipeline.interpolator",
    "Interpolation": "jax_interp.pipeline.interpolator",
    "InterpolatedPair": "jax_interp.pipeline.interpolator",
    "InterpolationSettings": "jax_interp.pipeline.settings",
    "Placement": "jax_interp.runtime.placement",
    "SampleSettings": "jax_interp.diffusion.settings",
    "DEFAULT_NEGATIVE_PROMPT": "jax_interp.pipeline.prompt.prompts",
    "load_embeddings": "jax_interp.pipeline.prompt.embeddings",
    "save_embeddings": "jax_interp.pipeline.prompt.embeddings",
    "Blocked": "jax_interp.errors",
    "JaxInterpError": "jax_interp.errors",
    "DiTConfig": "jax_interp.config",
    "TokenizerConfig": "jax_interp.config",
    "T5Config": "jax_interp.config",
    "DIT_7B": "jax_interp.config",
    "DIT_14B": "jax_interp.config",
    "CV8X8X8_720P": "jax_interp.config",
    "T5_11B": "jax_interp.config",
}

__all__ = [
    "CV8X8X8_720P",
    "DEFAULT_NEGATIVE_PROMPT",
    "DIT_7B",
    "DIT_14B",
    "T5_11B",
    "Blocked",
    "DeviceSettings",
    "DiTConfig",
    "GenerateRequest",
    "GuardrailSettings",
    "InterpolatedPair",
    "Interpolation",
    "InterpolationSettings",
    "Interpolator",
    "JaxInterpError",
    "Job",
    "MemorySettings",
    "NetworkSettings",
    "Placement",
    "ProcessSettings",
    "SampleSettings",
    "T5Config",
    "TokenizerConfig",
    "UpsamplerSettings",
    "__version__",
    "generate",
    "load_embeddings",
    "save_embeddings",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jax_interp' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
