"""Host memory: whether it can be pinned, and how to recognise that it, or a device's, ran out."""

import logging
from functools import cache
from threading import Lock
from typing import Any

import jax
import numpy as np

logger = logging.getLogger("jax_interp")

PINNED = "pinned_host"
_LOCK = Lock()


@cache
def pins(device: jax.Device) -> bool:
    """Tell whether `device` supports pinned host memory."""
    return PINNED in {memory.kind for memory in device.addressable_memories()}


def out_of_memory(error: BaseException) -> bool:
    """Tell whether `error` says that host or device memory ran out."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def host_out_of_memory(error: BaseException) -> bool:
    """Tell whether it was the host's memory that ran out, pinned or not."""
    return isinstance(error, MemoryError) or "host memory" in str(error).lower()


def warn_pageable_once() -> None:
    """Warn, once, that parameters stay in ordinary memory because no more could be pinned."""
    with _LOCK:  # parts are read and pinned in several threads
        _warn_pageable()


@cache
def _warn_pageable() -> None:
    logger.warning(
        "pinned host memory ran out; the other parameters stay in ordinary memory, from which copies to the GPU are"
        " several times slower. Raise XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB (64 unless set), or offload less"
    )


def nbytes(params: Any) -> int:
    """Return the bytes of all arrays, or descriptions of arrays, in `params`."""
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(params))
