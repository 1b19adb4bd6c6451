"""The settings of a run's guardrails. Imports no JAX."""

import threading
from dataclasses import dataclass

from jax_interp.errors import UsageError

TIMEOUT = 600.0
"""Seconds that a check may take, which includes reading the weights and compiling."""


@dataclass(frozen=True, kw_only=True)
class GuardrailSettings:
    """Which frames are classified, and how long a check may take."""

    frame_stride: int = 1
    """The distance between classified frames; faces are pixelated on all frames."""
    timeout: float = TIMEOUT
    """Seconds that a check may take; one that takes longer blocks."""

    def __post_init__(self) -> None:
        check_frame_stride(self.frame_stride)
        check_timeout(self.timeout)


def check_frame_stride(frame_stride: int) -> None:
    """Raise `UsageError` unless frames can be classified that far apart."""
    if frame_stride < 1:
        raise UsageError(f"--guardrail-frame-stride {frame_stride}: expected 1 (every frame) or more")


def check_timeout(timeout: float) -> None:
    """Raise `UsageError` unless `timeout` is a number of seconds that can be waited."""
    if not 0 < timeout <= threading.TIMEOUT_MAX:
        raise UsageError(f"--guardrail-timeout {timeout}: expected seconds, more than 0")
