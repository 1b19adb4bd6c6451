"""Parameters in host memory, pinned where the system allows it, and their way to a device."""

import logging
from functools import cache
from threading import Lock
from typing import Any

import jax
import numpy as np

from jax_interp.types import Params

logger = logging.getLogger("jax_interp")

PINNED = "pinned_host"
_LOCK = Lock()


def to_host(params: Params, device: jax.Device) -> Params:
    """Keep `params` (numpy arrays) where `device` copies them from fastest: pinned memory, else as they are.

    Pinned memory can run out long before memory does: XLA takes 64 GB of it unless told otherwise.
    """
    if not pins(device):
        return params
    sharding = jax.sharding.SingleDeviceSharding(device, memory_kind=PINNED)
    try:
        return jax.block_until_ready(jax.device_put(params, sharding))
    except jax.errors.JaxRuntimeError as error:
        if not out_of_memory(error):
            raise
        _say_pageable()
        return params


def to_device(params: Params, device: jax.Device) -> Params:
    """Start copying `params` to `device`; returns at once."""
    return jax.device_put(params, jax.sharding.SingleDeviceSharding(device, memory_kind=device.default_memory().kind))


@cache
def pins(device: jax.Device) -> bool:
    """Whether `device` knows pinned host memory."""
    return PINNED in {memory.kind for memory in device.addressable_memories()}


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that host or device memory ran out."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def host_out_of_memory(error: BaseException) -> bool:
    """Whether it was the host's memory, pinned or not."""
    return isinstance(error, MemoryError) or "host memory" in str(error).lower()


def _say_pageable() -> None:
    with _LOCK:  # parts are read and pinned in several threads
        _warn_pageable()


@cache
def _warn_pageable() -> None:
    logger.warning(
        "pinned host memory ran out; the other parameters stay in ordinary memory, from which copies to the GPU are"
        " several times slower. Raise XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB (64 unless set), or offload less"
    )


def nbytes(params: Any) -> int:
    """Bytes of all arrays (or their descriptions) in `params`."""
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(params))
