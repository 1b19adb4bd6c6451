"""Checks jaxtyping's annotations while tests run: kinds, numbers of axes, and that a letter has one size in a call.

beartype would check all other annotations too, but some tests hand in what only behaves as the class that is meant.
"""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook

ROOT = Path(__file__).parents[1]
ARRAY_TYPES = re.compile(
    r"^from (jaxtyping import|jax_interp\.types import .*\b(Latents|Tokens|Text|Frames)\b)", re.MULTILINE
)


def checker(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, whose arrays are checked at each call; of a container of arrays one, whatever its size."""
    kinds = function.__annotations__
    function.__annotations__ = {name: kind if has_arrays(kind) else Any for name, kind in kinds.items()}
    return beartype(function)


def has_arrays(kind: Any) -> bool:
    """Whether an annotation is or contains one of jaxtyping's, where numpy's arrays count as JAX's: JAX takes both."""
    if inspect.isclass(kind) and issubclass(kind, AbstractArray):
        if kind.array_type is jax.Array:
            kind.array_type = jax.Array | np.ndarray
        return True
    parts = [has_arrays(part) for part in get_args(kind)]  # all of them, not up to the first
    return any(parts)


def check_annotations() -> None:
    """From here on modules of the package that have jaxtyping's annotations are checked if they are imported."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "jax_interp").rglob("*.py")
        if ARRAY_TYPES.search(path.read_text())
    ]
    install_import_hook(modules, "tests.array_types.checker")
