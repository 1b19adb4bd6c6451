"""A pickle machine that can only describe tensors and build plain containers.

Python's own unpickler imports and calls what a pickle names. This one interprets the few opcodes that PyTorch emits
itself: a global is looked up in a table of inert constructors written here and is refused if it is not in it, so no
byte of the file can choose what runs. Nothing is imported by name, no attribute of any object is set, and BUILD fills
nothing but `ModuleRecord`.
"""

import pickletools
import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

from convert.formats.pickle_globals import (
    ALLOWED,
    CALLS,
    CONSTANTS,
    MODULE_PREFIX,
    STORAGE_DTYPES,
    DamagedPickle,
    Global,
    ModuleRecord,
    Opaque,
    Storage,
)
from jax_interp.errors import CheckpointError


class _RefusedGlobal(Exception):
    """The pickle names something that is in no table."""


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
            raise DamagedPickle(f"opcode {name} is not one that PyTorch writes")

    def peek(self) -> Any:
        """The topmost value since the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise DamagedPickle("a value is missing")
        return self.stack[-1]

    def pop(self) -> Any:
        self.peek()
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise DamagedPickle("a mark is missing")
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_tuple(self, length: int) -> None:
        self.push(tuple(reversed([self.pop() for _ in range(length)])))

    def push_global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise DamagedPickle("a global has no name")
        full = f"{module}.{name}"
        if full in CONSTANTS:
            self.push(CONSTANTS[full])
        elif full in CALLS or full in STORAGE_DTYPES or full.startswith(MODULE_PREFIX):
            self.push(Global(full))
        else:
            raise _RefusedGlobal(repr(full[:200]))

    def set_items(self, pairs: list[Any]) -> None:
        target = self.peek()
        if type(target) is not dict or len(pairs) % 2:
            raise DamagedPickle("items that are no pairs, or for something that is no dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if type(key) not in (str, int):
                raise DamagedPickle(f"a dict has a key of type {type(key).__name__}, expected text or a whole number")
            target[key] = value

    def call(self) -> None:
        """REDUCE and NEWOBJ: both put a callable and its arguments on the stack."""
        args, function = self.pop(), self.pop()
        if not isinstance(function, Global):
            raise DamagedPickle("something that is not a function is called")
        if function.name.startswith(MODULE_PREFIX):  # an enum's value comes without a tuple around it
            self.push(ModuleRecord(function.name))
        elif function.name in CALLS and type(args) is tuple:
            self.push(CALLS[function.name](args))
        else:
            raise DamagedPickle(f"{function.name} is called in an unknown way")

    def build(self) -> None:
        """BUILD: attributes of a TorchScript object; the state of anything else is dropped (`_metadata` of a dict)."""
        state = self.pop()
        target = self.peek()
        if not isinstance(target, ModuleRecord | Opaque | dict):
            raise DamagedPickle("state is given to something that has none")
        if not isinstance(target, ModuleRecord):
            return
        if type(state) is not dict or any(type(key) is not str for key in state):
            raise DamagedPickle(f"{target.name} packs its state in its own way; save the module's state_dict() instead")
        target.attributes = state

    def load_persistent(self) -> None:
        match self.pop():
            # Before PyTorch 1.6 a last entry told of storages that are parts of others.
            case ("storage", Global(name), str(key), _, int(numel), *part) if name in STORAGE_DTYPES and part in (
                [],
                [None],
            ):
                self.push(Storage(STORAGE_DTYPES[name], key, numel))
            case _:
                raise DamagedPickle("a storage is described in an unknown way")

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.push_global(module, name)


def _store(machine: _Machine, index: int | None) -> None:
    machine.memo[len(machine.memo) if index is None else index] = machine.peek()


def _extend(machine: _Machine, values: list[Any]) -> None:
    target = machine.peek()
    if type(target) is not list:
        raise DamagedPickle("values are added to something that is no list")
    target.extend(values)


_LITERALS = (
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES",
)  # fmt: skip

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


def unpickle(data: bytes | BytesIO, source: str) -> Any:
    """The value that a pickle describes: dicts, lists, tuples, text and numbers, and the classes of this file.

    Of a stream it reads one pickle and leaves what comes after it.

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
        raise DamagedPickle("it has no end")
    except _RefusedGlobal as refused:
        raise CheckpointError(
            f"{source}: its pickle names {refused}, which is refused: a checkpoint may hold tensors and plain"
            f" containers only (allowed: {ALLOWED}). If this is a whole model, save its state_dict() instead"
        ) from None
    except (DamagedPickle, LookupError, TypeError, ValueError, AttributeError, OverflowError, struct.error) as error:
        raise CheckpointError(
            f"{source}: its pickle is not a state dict as PyTorch writes it ({error}); download it again"
        ) from error
