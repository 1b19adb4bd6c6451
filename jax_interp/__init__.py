"""Generative video frame interpolation in JAX: the public surface.

`Interpolator` runs the pipeline; the other names are what its signatures and its errors name. They are imported when
first used, so that `import jax_interp` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jax_interp._version import __version__

if TYPE_CHECKING:
    from jax_interp.config import CV8X8X8_720P, DIT_7B, DIT_14B, T5_11B, DiTConfig, T5Config, VideoTokenizerConfig
    from jax_interp.diffusion.condition import ConditionNoise
    from jax_interp.errors import (
        Blocked,
        CheckpointError,
        DownloadError,
        JaxInterpError,
        MediaError,
        OutOfMemory,
        ProcessFailure,
        UsageError,
    )
    from jax_interp.guardrails.verdict import Verdict
    from jax_interp.pipeline.interpolator import Interpolator
    from jax_interp.pipeline.memory.footprint import Footprint
    from jax_interp.pipeline.memory.plan import MemoryPlan, Planner
    from jax_interp.pipeline.prompt.embeddings import load_embeddings, save_embeddings
    from jax_interp.pipeline.prompt.prompt_upsampler import UpsamplerSettings
    from jax_interp.pipeline.prompt.prompts import DEFAULT_NEGATIVE_PROMPT
    from jax_interp.pipeline.results import InterpolatedPair, Interpolation, PairProgress
    from jax_interp.pipeline.safety.guardrails import Checked, Guardrails
    from jax_interp.pipeline.settings import InterpolationSettings
    from jax_interp.pipeline.stages.denoiser import SampleSettings
    from jax_interp.pipeline.stages.workload import Workload
    from jax_interp.runtime.checkpoint.adapters import Adapter, LowRankPair
    from jax_interp.runtime.mesh import DeviceMesh, MeshShape
    from jax_interp.runtime.placement import Placement

_HOME = {
    "CV8X8X8_720P": "jax_interp.config",
    "DIT_7B": "jax_interp.config",
    "DIT_14B": "jax_interp.config",
    "T5_11B": "jax_interp.config",
    "DiTConfig": "jax_interp.config",
    "T5Config": "jax_interp.config",
    "VideoTokenizerConfig": "jax_interp.config",
    "ConditionNoise": "jax_interp.diffusion.condition",
    "Blocked": "jax_interp.errors",
    "CheckpointError": "jax_interp.errors",
    "DownloadError": "jax_interp.errors",
    "JaxInterpError": "jax_interp.errors",
    "MediaError": "jax_interp.errors",
    "OutOfMemory": "jax_interp.errors",
    "ProcessFailure": "jax_interp.errors",
    "UsageError": "jax_interp.errors",
    "Verdict": "jax_interp.guardrails.verdict",
    "Interpolator": "jax_interp.pipeline.interpolator",
    "Footprint": "jax_interp.pipeline.memory.footprint",
    "MemoryPlan": "jax_interp.pipeline.memory.plan",
    "Planner": "jax_interp.pipeline.memory.plan",
    "load_embeddings": "jax_interp.pipeline.prompt.embeddings",
    "save_embeddings": "jax_interp.pipeline.prompt.embeddings",
    "UpsamplerSettings": "jax_interp.pipeline.prompt.prompt_upsampler",
    "DEFAULT_NEGATIVE_PROMPT": "jax_interp.pipeline.prompt.prompts",
    "InterpolatedPair": "jax_interp.pipeline.results",
    "Interpolation": "jax_interp.pipeline.results",
    "PairProgress": "jax_interp.pipeline.results",
    "Checked": "jax_interp.pipeline.safety.guardrails",
    "Guardrails": "jax_interp.pipeline.safety.guardrails",
    "InterpolationSettings": "jax_interp.pipeline.settings",
    "SampleSettings": "jax_interp.pipeline.stages.denoiser",
    "Workload": "jax_interp.pipeline.stages.workload",
    "Adapter": "jax_interp.runtime.checkpoint.adapters",
    "LowRankPair": "jax_interp.runtime.checkpoint.adapters",
    "DeviceMesh": "jax_interp.runtime.mesh",
    "MeshShape": "jax_interp.runtime.mesh",
    "Placement": "jax_interp.runtime.placement",
}

__all__ = [
    "CV8X8X8_720P",
    "DEFAULT_NEGATIVE_PROMPT",
    "DIT_7B",
    "DIT_14B",
    "T5_11B",
    "Adapter",
    "Blocked",
    "Checked",
    "CheckpointError",
    "ConditionNoise",
    "DeviceMesh",
    "DiTConfig",
    "DownloadError",
    "Footprint",
    "Guardrails",
    "InterpolatedPair",
    "Interpolation",
    "InterpolationSettings",
    "Interpolator",
    "JaxInterpError",
    "LowRankPair",
    "MediaError",
    "MemoryPlan",
    "MeshShape",
    "OutOfMemory",
    "PairProgress",
    "Placement",
    "Planner",
    "ProcessFailure",
    "SampleSettings",
    "T5Config",
    "UpsamplerSettings",
    "UsageError",
    "Verdict",
    "VideoTokenizerConfig",
    "Workload",
    "__version__",
    "load_embeddings",
    "save_embeddings",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jax_interp' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
