"""Checks jaxtyping's annotations while tests run: kinds, numbers of axes, and that a letter has one size in a call.

Only arrays are checked, of containers those in tuples and lists. Other annotations are the type checker's: some tests
hand in what only behaves as the class that is meant.
"""

import inspect
from collections.abc import Callable
from types import UnionType
from typing import Any, Union, get_args, get_origin

import jax
import numpy as np
from jaxtyping import AbstractArray, install_import_hook

ROOMS = ("nn", "models", "diffusion")
"""Where functions trust their arguments. Those nearer to the user refuse bad ones with a message, which is tested."""


def checker(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, of which jaxtyping makes one with the signature that is to be checked."""
    kinds = {name: kind for name, kind in function.__annotations__.items() if has_arrays(kind)}
    if not kinds:
        return function
    signature = inspect.signature(function)

    def checked(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        values = {**signature.bind(*args, **kwargs).arguments, "return": result}
        for name, kind in kinds.items():
            if name in values and not matches(values[name], kind):
                raise TypeError(f"{name} is not {kind}")
        return result

    return checked


def has_arrays(kind: Any) -> bool:
    """Whether an annotation is or contains one of jaxtyping's, where numpy's arrays count as JAX's: JAX takes both."""
    if is_array(kind):
        if kind.array_type is jax.Array:
            kind.array_type = jax.Array | np.ndarray
        return True
    parts = [has_arrays(part) for part in get_args(kind)]  # all of them, not up to the first
    return any(parts)


def is_array(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, AbstractArray)


def matches(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind, as far as arrays go."""
    parts, origin = get_args(kind), get_origin(kind)
    if is_array(kind):
        return isinstance(value, kind)
    if origin in (Union, UnionType):
        return any(matches(value, part) for part in parts)
    if kind is type(None):
        return value is None
    if origin is list or (origin is tuple and parts[-1] is ...):
        return all(matches(item, parts[0]) for item in value)
    if origin is tuple:
        return len(value) == len(parts) and all(matches(*pair) for pair in zip(value, parts, strict=True))
    return True


def check_annotations() -> None:
    """From here on modules of these rooms are checked if they are imported."""
    install_import_hook([f"jax_interp.{room}" for room in ROOMS], "tests.array_types.checker")
