"""Everything a checkpoint's pickle may name, and what each name makes here: descriptions of tensors, plain containers.

The constructors are written here and inert: none of them calls, imports or sets anything that came from the file.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from convert.formats.limits import MAX_AXES


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage that a persistent id names: `numel` values of `dtype` (None for bytes) in the record `data/<key>`."""

    dtype: np.dtype | None
    key: str
    numel: int

    @property
    def itemsize(self) -> int:
        """The number of bytes of one value."""
        return 1 if self.dtype is None else self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor as the pickle describes it; offset and strides count elements. Nothing is checked against the file."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(eq=False, slots=True)
class ModuleRecord:
    """An object of a TorchScript class: its name and attributes, without any behaviour."""

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opaque:
    """The place of an object that was accepted and thrown away, such as the bytes of an `io.BytesIO`."""

    kind: str


@dataclass(frozen=True, slots=True)
class Global:
    """A global of the table of allowed names, before it is called."""

    name: str


class DamagedPickle(Exception):
    """The pickle is not one that PyTorch writes for a state dict."""


class NumberKey(str):
    """A dict's key that was a whole number in the pickle, as in an optimizer's state, and is kept as a text.

    A file can choose numbers that all fall on one place of Python's table, so that every further one takes longer to
    put there. Texts are hashed with a secret of the process, which no file knows.
    """

    __slots__ = ()

    @classmethod
    def of(cls, key: Any) -> "NumberKey":
        """Make a key of the whole number `key`; raises `DamagedPickle` if it is not one of 64 bits."""
        if type(key) is not int or not -(1 << 63) <= key < 1 << 64:
            raise DamagedPickle(f"a dict has a key of type {type(key).__name__}, expected text or a whole number")
        return cls(key)


MODULE_PREFIX = "__torch__."

_DTYPES = (
    "float64", "float32", "float16", "bfloat16", "complex64", "complex128", "int64", "int32", "int16", "int8", "uint64",
    "uint32", "uint16", "uint8", "bool", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
    "float8_e8m0fnu",
)  # fmt: skip

_STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}  # fmt: skip


def _dtype(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name, name))


STORAGE_DTYPES: dict[str, np.dtype | None] = {
    "torch.storage.UntypedStorage": None,
    **{f"torch.{name}Storage": _dtype(kind) for name, kind in _STORAGES.items()},
}

CONSTANTS: dict[str, Any] = {f"torch.{name}": _dtype(name) for name in _DTYPES}


def _rebuild_tensor(args: tuple[Any, ...]) -> TensorView:
    """`torch._utils._rebuild_tensor_v2`: (storage, offset, shape, strides, requires_grad, hooks[, metadata])."""
    storage, offset, shape, strides, _, _, *metadata = args
    return _view(storage, storage.dtype, offset, shape, strides, metadata)


def _rebuild_tensor_of_dtype(args: tuple[Any, ...]) -> TensorView:
    """`torch._utils._rebuild_tensor_v3`: as v2 on an untyped storage, with the dtype after the hooks."""
    storage, offset, shape, strides, _, _, dtype, *metadata = args
    return _view(storage, dtype, offset, shape, strides, metadata)


def _view(storage: Any, dtype: Any, offset: Any, shape: Any, strides: Any, metadata: list[Any]) -> TensorView:
    if metadata not in ([], [None], [{}]):
        raise DamagedPickle("a tensor is a lazy conjugate or negative; save resolve_conj().resolve_neg() of it")
    shape, strides = _sizes(shape), _sizes(strides)
    is_known = isinstance(storage, Storage) and isinstance(dtype, np.dtype) and len(shape) == len(strides)
    if not is_known or any(type(number) is not int for number in (offset, *shape, *strides)):
        raise DamagedPickle("a tensor is described in an unknown way")
    return TensorView(storage, dtype, offset, shape, strides)


def _sizes(values: Any) -> tuple[Any, ...]:
    """Return a copy of lengths or strides. One list can be named millions of times, so a long one is not copied."""
    if type(values) not in (list, tuple) or len(values) > MAX_AXES:
        raise DamagedPickle(f"a shape is no list of {MAX_AXES} numbers at most")
    return tuple(values)


def _empty_dict(args: tuple[Any, ...]) -> dict[Any, Any]:
    if args:
        raise DamagedPickle("an OrderedDict is given its items at once")
    return {}


def _first(args: tuple[Any, ...]) -> Any:
    """Return the first argument of a wrapper that adds gradients, hooks or types, which have no meaning here."""
    return args[0]


CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _empty_dict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_of_dtype,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.Size": lambda args: _sizes(*args),
    "torch.device": lambda args: "torch.device",
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
    "_codecs.encode": lambda args: Opaque("bytes"),  # how pickle protocol 2 spells bytes
    "__builtin__.bytes": lambda args: Opaque("bytes"),
    "builtins.complex": lambda args: Opaque("complex"),
    "_io.BytesIO": lambda args: Opaque("io.BytesIO"),
}
"""The constructors that REDUCE and NEWOBJ may call. None of them calls anything that came from the file."""

ALLOWED = "storages and dtypes of torch, __torch__.*, " + ", ".join(sorted(CALLS))
