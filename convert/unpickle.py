"""A pickle machine that can only describe tensors and build plain containers.

Python's own unpickler imports and calls what a pickle names. This one interprets the few opcodes that PyTorch emits
itself: a global is looked up in a table of inert constructors written here and is refused if it is not in it, so no
byte of the file can choose what runs. Nothing is imported by name, no attribute of any object is set, and BUILD fills
nothing but `ModuleRecord`.
"""

import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from jax_interp.errors import CheckpointError


@dataclass(frozen=True)
class Storage:
    """A persistent id: `numel` values of `dtype`, or bytes if `dtype` is None, in the record `data/<key>`."""

    dtype: np.dtype | None
    key: str
    numel: int


@dataclass(frozen=True)
class TensorView:
    """A tensor as the pickle describes it; offset and strides count elements. Nothing is checked against the file."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(eq=False)
class ModuleRecord:
    """An object of a TorchScript class: its name and attributes, without any behaviour."""

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Opaque:
    """Something that was accepted and thrown away, such as the bytes of an `io.BytesIO`."""

    kind: str


@dataclass(frozen=True)
class Global:
    """An allowed name, before it is called."""

    name: str


class _Damaged(Exception):
    """The pickle is not one that PyTorch writes for a state dict."""


class _RefusedGlobal(Exception):
    """The pickle names something that is in no table."""


_MODULE_PREFIX = "__torch__."

_DTYPES = {
    "float64": np.float64, "double": np.float64, "float32": np.float32, "float": np.float32, "float16": np.float16,
    "half": np.float16, "bfloat16": ml_dtypes.bfloat16, "int64": np.int64, "long": np.int64, "int32": np.int32,
    "int": np.int32, "int16": np.int16, "short": np.int16, "int8": np.int8, "uint8": np.uint8, "uint16": np.uint16,
    "uint32": np.uint32, "uint64": np.uint64, "bool": np.bool_, "complex64": np.complex64, "complex128": np.complex128,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
    "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "float8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "float8_e8m0fnu": ml_dtypes.float8_e8m0fnu,
}  # fmt: skip

_STORAGES = {
    "Double": np.float64, "Float": np.float32, "Half": np.float16, "BFloat16": ml_dtypes.bfloat16, "Long": np.int64,
    "Int": np.int32, "Short": np.int16, "Char": np.int8, "Byte": np.uint8, "Bool": np.bool_,
    "ComplexFloat": np.complex64, "ComplexDouble": np.complex128,
}  # fmt: skip

_STORAGE_DTYPES: dict[str, np.dtype | None] = {
    "torch.storage.UntypedStorage": None,
    **{f"torch.{name}Storage": np.dtype(kind) for name, kind in _STORAGES.items()},
}

_CONSTANTS: dict[str, Any] = {f"torch.{name}": np.dtype(kind) for name, kind in _DTYPES.items()}


def _rebuild_tensor(args: tuple[Any, ...]) -> TensorView:
    """`torch._utils._rebuild_tensor_v2`: (storage, offset, shape, strides, requires_grad, hooks[, metadata])."""
    storage, offset, shape, strides, _, _, *metadata = args
    return _view(storage, storage.dtype, offset, shape, strides, metadata)


def _rebuild_tensor_of_dtype(args: tuple[Any, ...]) -> TensorView:
    """`torch._utils._rebuild_tensor_v3`: as v2 on an untyped storage, with the dtype after the hooks."""
    storage, offset, shape, strides, _, _, dtype, *metadata = args
    return _view(storage, dtype, offset, shape, strides, metadata)


def _view(storage: Any, dtype: Any, offset: Any, shape: Any, strides: Any, metadata: list[Any]) -> TensorView:
    if metadata and metadata != [{}] and metadata != [None]:
        raise _Damaged("a tensor is a lazily conjugated or negated view; save it with resolve_conj().resolve_neg()")
    numbers = [offset, *shape, *strides]
    if not isinstance(storage, Storage) or not isinstance(dtype, np.dtype) or any(type(n) is not int for n in numbers):
        raise _Damaged("a tensor is described in an unknown way")
    return TensorView(storage, dtype, offset, tuple(shape), tuple(strides))


def _empty_dict(args: tuple[Any, ...]) -> dict[Any, Any]:
    if args:
        raise _Damaged("an OrderedDict is given its items at once")
    return {}


def _first(args: tuple[Any, ...]) -> Any:
    """The first argument: of wrappers that add gradients, hooks or types, which mean nothing here."""
    return args[0]


_CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _empty_dict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_of_dtype,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.Size": lambda args: tuple(args[0]),
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
"""What REDUCE and NEWOBJ may call. None of them calls anything that came from the file."""

ALLOWED = "storages and dtypes of torch, __torch__.*, " + ", ".join(sorted(_CALLS))


class _Machine:
    """The stack, the marks and the memo of one run."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, arg: Any) -> None:
        if name in _LITERALS:
            self.stack.append(Opaque("bytes") if isinstance(arg, bytes) else arg)
        elif name in _OPERATIONS:
            _OPERATIONS[name](self, arg)
        else:
            raise _Damaged(f"opcode {name} is not one that PyTorch writes")

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise _Damaged("a value is missing")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or type(self.stack[-1]) is not kind:
            raise _Damaged(f"no {kind.__name__} where one was expected")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise _Damaged("a mark is missing")
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_tuple(self, length: int) -> None:
        self.push(tuple(reversed([self.pop() for _ in range(length)])))

    def push_global(self, module: Any, name: Any) -> None:
        full = f"{module}.{name}"
        if full in _CONSTANTS:
            self.push(_CONSTANTS[full])
        elif full in _CALLS or full in _STORAGE_DTYPES or full.startswith(_MODULE_PREFIX):
            self.push(Global(full))
        else:
            raise _RefusedGlobal(full)

    def set_items(self, pairs: list[Any]) -> None:
        target = self.top(dict)
        if len(pairs) % 2:
            raise _Damaged("a dict has a key without a value")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if type(key) not in (str, int):
                raise _Damaged(f"a dict has a key of type {type(key).__name__}, expected text or a whole number")
            target[key] = value

    def call(self) -> None:
        """REDUCE and NEWOBJ: both put a callable and its arguments on the stack."""
        args, function = self.pop(), self.pop()
        if not isinstance(function, Global) or type(args) is not tuple:
            raise _Damaged("something that is not a function is called")
        if function.name.startswith(_MODULE_PREFIX):
            self.push(ModuleRecord(function.name))
        elif function.name in _CALLS:
            self.push(_CALLS[function.name](args))
        else:
            raise _Damaged(f"{function.name} is called")

    def build(self) -> None:
        """BUILD: attributes of a TorchScript object; the state of anything else is dropped (`_metadata` of a dict)."""
        state = self.pop()
        if not self.stack or not isinstance(self.stack[-1], ModuleRecord | Opaque | dict):
            raise _Damaged("state is given to something that has none")
        target = self.stack[-1]
        if not isinstance(target, ModuleRecord):
            return
        if type(state) is not dict or any(type(key) is not str for key in state):
            raise _Damaged(f"{target.name} packs its state in its own way; save the module's state_dict() instead")
        target.attributes = state

    def load_persistent(self) -> None:
        match self.pop():
            case ("storage", Global(name), str(key), _, int(numel)) if name in _STORAGE_DTYPES:
                self.push(Storage(_STORAGE_DTYPES[name], key, numel))
            case _:
                raise _Damaged("a storage is described in an unknown way")

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.push_global(module, name)


def _store(machine: _Machine, index: int | None) -> None:
    if not machine.stack:
        raise _Damaged("nothing to remember")
    machine.memo[len(machine.memo) if index is None else index] = machine.stack[-1]


def _extend(machine: _Machine, values: list[Any]) -> None:
    machine.top(list).extend(values)


_LITERALS = frozenset(
    [
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINBYTES",
        "SHORT_BINBYTES",
    ]
)

_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, arg: None,
    "FRAME": lambda machine, arg: None,
    "NONE": lambda machine, arg: machine.push(None),
    "NEWTRUE": lambda machine, arg: machine.push(True),
    "NEWFALSE": lambda machine, arg: machine.push(False),
    "EMPTY_DICT": lambda machine, arg: machine.push({}),
    "EMPTY_LIST": lambda machine, arg: machine.push([]),
    "EMPTY_TUPLE": lambda machine, arg: machine.push(()),
    "MARK": lambda machine, arg: machine.marks.append(len(machine.stack)),
    "TUPLE": lambda machine, arg: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, arg: machine.push_tuple(1),
    "TUPLE2": lambda machine, arg: machine.push_tuple(2),
    "TUPLE3": lambda machine, arg: machine.push_tuple(3),
    "APPEND": lambda machine, arg: _extend(machine, [machine.pop()]),
    "APPENDS": lambda machine, arg: _extend(machine, machine.since_mark()),
    "SETITEM": lambda machine, arg: machine.set_items(list(reversed([machine.pop(), machine.pop()]))),
    "SETITEMS": lambda machine, arg: machine.set_items(machine.since_mark()),
    "BINPUT": _store,
    "LONG_BINPUT": _store,
    "MEMOIZE": _store,
    "BINGET": lambda machine, arg: machine.push(machine.memo[arg]),
    "LONG_BINGET": lambda machine, arg: machine.push(machine.memo[arg]),
    "GLOBAL": lambda machine, arg: machine.push_global(*arg.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, arg: machine.stack_global(),
    "REDUCE": lambda machine, arg: machine.call(),
    "NEWOBJ": lambda machine, arg: machine.call(),
    "BUILD": lambda machine, arg: machine.build(),
    "BINPERSID": lambda machine, arg: machine.load_persistent(),
}


def unpickle(data: bytes, source: str) -> Any:
    """The value that a pickle describes: dicts, lists, tuples, text and numbers, and the classes of this file.

    Raises:
        CheckpointError: the pickle names a global that is not allowed, or is not one that PyTorch writes for tensors;
            the message starts with `source`.
    """
    machine = _Machine()
    try:
        for opcode, arg, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, arg)
        raise _Damaged("it has no end")
    except _RefusedGlobal as refused:
        raise CheckpointError(
            f"{source}: its pickle names {refused}, which is refused: a checkpoint may hold tensors and plain containers"
            f" only (allowed: {ALLOWED}). If this is a whole model or a training state, save its state_dict() instead"
        ) from None
    except (_Damaged, LookupError, TypeError, ValueError, AttributeError, OverflowError, struct.error) as error:
        raise CheckpointError(
            f"{source}: its pickle is not a state dict as PyTorch writes it ({error}); download it again"
        ) from error
