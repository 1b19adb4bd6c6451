"""Generative video frame interpolation in JAX: the public surface.

`Interpolator` and `Video2World` run on frames, and `generate` makes the files of a `GenerateRequest`; the other names
are what their signatures and errors name. They are imported when first used, so that `import jax_interp` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jax_interp._version import __version__

if TYPE_CHECKING:
    from jax_interp.config import CV8X8X8_720P, DIT_7B, DIT_14B, T5_11B, DiTConfig, T5Config, VideoTokenizerConfig
    from jax_interp.diffusion.settings import ConditionNoise, SampleSettings
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
    from jax_interp.media.read_settings import ReadSettings
    from jax_interp.media.shape import Aspect, Size
    from jax_interp.media.timeline.settings import Timeline
    from jax_interp.media.video.codecs import EncodingSettings
    from jax_interp.pipeline.calibration.calibrator import Calibrator
    from jax_interp.pipeline.interpolator import Interpolator
    from jax_interp.pipeline.jobs.generate import generate
    from jax_interp.pipeline.jobs.reporter import Reporter
    from jax_interp.pipeline.memory.footprint import Footprint
    from jax_interp.pipeline.memory.plan import MemoryPlan, Planner
    from jax_interp.pipeline.memory.settings import MemorySettings
    from jax_interp.pipeline.planned_clip import InterpolatedClip
    from jax_interp.pipeline.prompt.embeddings import load_embeddings, save_embeddings
    from jax_interp.pipeline.prompt.prompts import DEFAULT_NEGATIVE_PROMPT
    from jax_interp.pipeline.prompt.upsampler_settings import UpsamplerSettings
    from jax_interp.pipeline.requests.request import GenerateRequest, Job
    from jax_interp.pipeline.requests.settings import DeviceSettings, NetworkSettings, ProcessSettings
    from jax_interp.pipeline.results import GeneratedVideo, InterpolatedPair, Interpolation, PairProgress
    from jax_interp.pipeline.safety.guardrails import Checked, Guardrails
    from jax_interp.pipeline.safety.settings import GuardrailSettings
    from jax_interp.pipeline.settings import InterpolationSettings, Video2WorldSettings
    from jax_interp.pipeline.stages.workload import Workload
    from jax_interp.pipeline.video2world import Video2World
    from jax_interp.runtime.checkpoint.adapters import Adapter, LowRankPair
    from jax_interp.runtime.member import Member
    from jax_interp.runtime.mesh import DeviceMesh
    from jax_interp.runtime.mesh_shape import MeshShape
    from jax_interp.runtime.placement import Placement

_HOME = {
    "CV8X8X8_720P": "jax_interp.config",
    "DIT_7B": "jax_interp.config",
    "DIT_14B": "jax_interp.config",
    "T5_11B": "jax_interp.config",
    "DiTConfig": "jax_interp.config",
    "T5Config": "jax_interp.config",
    "VideoTokenizerConfig": "jax_interp.config",
    "SampleSettings": "jax_interp.diffusion.settings",
    "ConditionNoise": "jax_interp.diffusion.settings",
    "Blocked": "jax_interp.errors",
    "CheckpointError": "jax_interp.errors",
    "DownloadError": "jax_interp.errors",
    "JaxInterpError": "jax_interp.errors",
    "MediaError": "jax_interp.errors",
    "OutOfMemory": "jax_interp.errors",
    "ProcessFailure": "jax_interp.errors",
    "UsageError": "jax_interp.errors",
    "Verdict": "jax_interp.guardrails.verdict",
    "EncodingSettings": "jax_interp.media.video.codecs",
    "Calibrator": "jax_interp.pipeline.calibration.calibrator",
    "Interpolator": "jax_interp.pipeline.interpolator",
    "Video2World": "jax_interp.pipeline.video2world",
    "generate": "jax_interp.pipeline.jobs.generate",
    "Reporter": "jax_interp.pipeline.jobs.reporter",
    "Footprint": "jax_interp.pipeline.memory.footprint",
    "MemoryPlan": "jax_interp.pipeline.memory.plan",
    "Planner": "jax_interp.pipeline.memory.plan",
    "MemorySettings": "jax_interp.pipeline.memory.settings",
    "load_embeddings": "jax_interp.pipeline.prompt.embeddings",
    "save_embeddings": "jax_interp.pipeline.prompt.embeddings",
    "DEFAULT_NEGATIVE_PROMPT": "jax_interp.pipeline.prompt.prompts",
    "UpsamplerSettings": "jax_interp.pipeline.prompt.upsampler_settings",
    "GenerateRequest": "jax_interp.pipeline.requests.request",
    "Job": "jax_interp.pipeline.requests.request",
    "DeviceSettings": "jax_interp.pipeline.requests.settings",
    "NetworkSettings": "jax_interp.pipeline.requests.settings",
    "ProcessSettings": "jax_interp.pipeline.requests.settings",
    "InterpolatedPair": "jax_interp.pipeline.results",
    "GeneratedVideo": "jax_interp.pipeline.results",
    "Interpolation": "jax_interp.pipeline.results",
    "PairProgress": "jax_interp.pipeline.results",
    "Checked": "jax_interp.pipeline.safety.guardrails",
    "Guardrails": "jax_interp.pipeline.safety.guardrails",
    "GuardrailSettings": "jax_interp.pipeline.safety.settings",
    "InterpolationSettings": "jax_interp.pipeline.settings",
    "Video2WorldSettings": "jax_interp.pipeline.settings",
    "Workload": "jax_interp.pipeline.stages.workload",
    "Adapter": "jax_interp.runtime.checkpoint.adapters",
    "LowRankPair": "jax_interp.runtime.checkpoint.adapters",
    "Member": "jax_interp.runtime.member",
    "DeviceMesh": "jax_interp.runtime.mesh",
    "MeshShape": "jax_interp.runtime.mesh_shape",
    "Placement": "jax_interp.runtime.placement",
    "ReadSettings": "jax_interp.media.read_settings",
    "Aspect": "jax_interp.media.shape",
    "Size": "jax_interp.media.shape",
    "Timeline": "jax_interp.media.timeline.settings",
    "InterpolatedClip": "jax_interp.pipeline.planned_clip",
}

__all__ = [
    "CV8X8X8_720P",
    "DEFAULT_NEGATIVE_PROMPT",
    "DIT_7B",
    "DIT_14B",
    "T5_11B",
    "Adapter",
    "Aspect",
    "Blocked",
    "Calibrator",
    "Checked",
    "CheckpointError",
    "ConditionNoise",
    "DeviceMesh",
    "DeviceSettings",
    "DiTConfig",
    "DownloadError",
    "EncodingSettings",
    "Footprint",
    "GenerateRequest",
    "GeneratedVideo",
    "GuardrailSettings",
    "Guardrails",
    "InterpolatedClip",
    "InterpolatedPair",
    "Interpolation",
    "InterpolationSettings",
    "Interpolator",
    "JaxInterpError",
    "Job",
    "LowRankPair",
    "MediaError",
    "Member",
    "MemoryPlan",
    "MemorySettings",
    "MeshShape",
    "NetworkSettings",
    "OutOfMemory",
    "PairProgress",
    "Placement",
    "Planner",
    "ProcessFailure",
    "ProcessSettings",
    "ReadSettings",
    "Reporter",
    "SampleSettings",
    "Size",
    "T5Config",
    "Timeline",
    "UpsamplerSettings",
    "UsageError",
    "Verdict",
    "Video2World",
    "Video2WorldSettings",
    "VideoTokenizerConfig",
    "Workload",
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
