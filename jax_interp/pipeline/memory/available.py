"""How much GPU memory there is to plan with, asked without starting JAX."""

import os

from jax_interp.pipeline.memory.settings import MemorySettings
from jax_interp.runtime.hardware import Gpu, nvidia_gpus

SHARE_OF_FREE = 0.97
"""How much of the free memory is planned with: what the driver calls free is never all to be had."""


def available(settings: MemorySettings) -> int | None:
    """Bytes of GPU memory to plan with: the budget, else what is free; None without a GPU."""
    gpu = fullest_gpu()
    return settings.budget or (int(SHARE_OF_FREE * gpu.free) if gpu else None)


def fullest_gpu() -> Gpu | None:
    """Of the GPUs that JAX sees the one with the least free memory; None without one."""
    gpus = nvidia_gpus()
    if not gpus or os.environ.get("JAX_PLATFORMS", "cuda").split(",")[0] not in ("cuda", "gpu", ""):
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return min(gpus, key=lambda gpu: gpu.free)
    named = [entry.strip() for entry in visible.split(",")]
    if named[0] in ("", "-1"):
        return None
    # A GPU may also be named by its identifier, of which the driver was not asked.
    seen = [gpus[int(entry)] for entry in named if entry.isdecimal() and int(entry) < len(gpus)]
    return min(seen or gpus, key=lambda gpu: gpu.free)
