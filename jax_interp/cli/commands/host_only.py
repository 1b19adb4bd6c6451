"""Keeping commands that only move files off the GPU."""

import os
import sys


def use_no_accelerator() -> None:
    """Make JAX run on the CPU, unless it is imported already; it would reserve most of a GPU's memory for nothing."""
    if "jax" not in sys.modules:
        os.environ["JAX_PLATFORMS"] = "cpu"
