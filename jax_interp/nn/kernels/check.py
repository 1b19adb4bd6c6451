"""Asks whether a kernel for Hopper GPUs can be used: it is run once, and what it computes is compared."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax

logger = logging.getLogger("jax_interp")


def hopper() -> bool:
    """Tell whether the first device is a GPU of compute capability 9.0."""
    device = jax.devices()[0]
    return device.platform == "gpu" and getattr(device, "compute_capability", None) == "9.0"


def works(kernel: str, instead: str, is_right: Callable[[], bool]) -> bool:
    """Tell whether a kernel for Hopper GPUs runs here and `is_right`, which runs it, finds its numbers right.

    `kernel` names it in the warning that is logged if it fails, and `instead` what is then used.
    """
    if not hopper():
        return False
    try:
        # A thread of its own: this is usually asked while a function is traced, which the kernel must not be part of.
        with ThreadPoolExecutor(1) as thread:
            right = thread.submit(is_right).result()
    except Exception as error:  # Pallas' GPU interface is young: whatever a version of it raises, there is another way
        logger.warning("%s does not run here (%s); using %s", kernel, error, instead)
        return False
    if not right:
        logger.warning("%s gives wrong numbers here; using %s", kernel, instead)
    return right
