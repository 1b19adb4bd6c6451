"""The amount of GPU memory that a plan may use, queried without starting JAX."""

import os

from jax_interp.pipeline.memory.settings import MemorySettings
from jax_interp.runtime.hardware import Gpu, nvidia_gpus

SHARE_OF_FREE = 0.97
"""The fraction of the free memory that a plan uses: a process never gets all that the driver reports as free."""


def available(settings: MemorySettings) -> int | None:
    """Return the bytes of GPU memory that a plan may use: the budget, otherwise what is free; None without a GPU."""
    gpu = fullest_gpu()
    return settings.budget or (int(SHARE_OF_FREE * gpu.free) if gpu else None)


def fullest_gpu() -> Gpu | None:
    """Return the GPU with the least free memory among those that JAX sees; None if there is none."""
    gpus = nvidia_gpus()
    if not gpus or os.environ.get("JAX_PLATFORMS", "cuda").split(",")[0] not in ("cuda", "gpu", ""):
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return min(gpus, key=lambda gpu: gpu.free)
    named = [entry.strip() for entry in visible.split(",")]
    if named[0] in ("", "-1"):
        return None
    # A GPU may also be named by its identifier, which the query to the driver did not include.
    seen = [gpus[int(entry)] for entry in named if entry.isdecimal() and int(entry) < len(gpus)]
    return min(seen or gpus, key=lambda gpu: gpu.free)
