"""The strength of an adapter, as it is written on the command line."""

import math
from pathlib import Path

from jax_interp.errors import UsageError


def parse_strength(text: str) -> tuple[Path, float]:
    """Return file and strength of `FILE` (strength 1) or `FILE=STRENGTH`.

    Raises:
        UsageError: the strength is not a finite number.
    """
    file, equals, strength = text.rpartition("=")
    if not equals or Path(text).exists():
        return Path(text), 1.0
    try:
        value = float(strength)
    except ValueError:
        value = float("nan")
    if not file or not math.isfinite(value):
        raise UsageError(f"--lora {text}: expected FILE or FILE=STRENGTH, the strength a number such as 0.8")
    return Path(file), value
