"""A pickle machine that can only describe tensors and build plain containers.

Python's own unpickler imports and calls what a pickle names. This one interprets the few opcodes that PyTorch emits
itself: a global is looked up in a table of inert constructors written here and is refused if it is not in it, so no
byte of the file can choose what runs. Nothing is imported by name, no attribute of any object is set, and BUILD fills
nothing but `ModuleRecord`.

Nor can a file choose how long it runs or how much memory it takes: every opcode takes constant time, or pays for the
time it takes in steps, of which there are `limits.MAX_STEPS`.
"""

import pickletools
import struct
from collections.abc import Callable
from typing import Any

from convert.formats.limits import MAX_NAME, MAX_STEPS
from convert.formats.names import shown
from convert.formats.pytorch.pickle_globals import (
    ALLOWED,
    CALLS,
    CONSTANTS,
    MODULE_PREFIX,
    STORAGE_DTYPES,
    DamagedPickle,
    Global,
    ModuleRecord,
    NumberKey,
    Opaque,
    Storage,
)
from jax_interp.errors import CheckpointError

_MAX_ARGUMENTS = 16
"""Arguments of a call; the longest call that is known has eight."""

_BYTES = Opaque("bytes")
_NOTHING = object()
"""The value of memo entries at which nothing was stored."""


class _RefusedGlobal(Exception):
    """The pickle names something that is in no table."""


class _OutOfSteps(Exception):
    """The pickle goes on for longer than any state dict."""


class PickleReader:
    """Reads the pickles in `data` one behind the other; all of them together have `MAX_STEPS`."""

    def __init__(self, data: bytes, source: str):
        self.position = 0
        """Where the next pickle begins."""
        self._data = data
        self._source = source
        self._left = MAX_STEPS

    def load(self) -> Any:
        """Return the value that the next pickle describes.

        It consists of dicts, lists, tuples, text, numbers and the classes of `pickle_globals`.

        Raises:
            CheckpointError: the pickle names a global that is not allowed, is not one that PyTorch writes for tensors,
                or is too long; the message starts with the source.
        """
        machine = _Machine(self._data, self.position, self._left)
        try:
            value = machine.run()
        except _RefusedGlobal as refused:
            raise CheckpointError(
                f"{self._source}: its pickle names {refused}, which is refused: a checkpoint may hold tensors and plain"
                f" containers only (allowed: {ALLOWED}). If this is a whole model, save its state_dict() instead"
            ) from None
        except _OutOfSteps:
            raise CheckpointError(
                f"{self._source}: its pickle takes more than {MAX_STEPS:,} steps, the most that is read; that is no"
                " state dict. If it holds more than weights, save the state_dict() alone"
            ) from None
        except _FAULTS as error:
            fault = "it is cut short" if machine.at >= len(self._data) else error
            raise CheckpointError(
                f"{self._source}: its pickle is not a state dict as PyTorch writes it ({fault}); download it again"
            ) from error
        self.position, self._left = machine.at, machine.left
        return value


def unpickle(data: bytes, source: str) -> Any:
    """Return the value that the pickle `data` describes; see `PickleReader.load`."""
    return PickleReader(data, source).load()


_FAULTS = (DamagedPickle, LookupError, TypeError, ValueError, AttributeError, OverflowError, struct.error)


class _Machine:
    """The stack and the memo of one run. MARK puts the stack aside for a new one, until its values are collected."""

    __slots__ = ("at", "data", "left", "memo", "outer", "stack")

    def __init__(self, data: bytes, at: int, left: int):
        self.data, self.at, self.left = data, at, left
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: list[Any] = []

    def run(self) -> Any:
        """Execute opcodes up to STOP and return the topmost value."""
        data, operations = self.data, _BY_CODE
        while (code := data[self.at]) != _STOP:
            self.at += 1
            self.left -= 1
            if self.left < 0:
                raise _OutOfSteps
            operations[code](self)
        self.at += 1
        return self.stack.pop()

    def spend(self, steps: int) -> None:
        """Pay for work that is not done in constant time or memory."""
        self.left -= steps
        if self.left < 0:
            raise _OutOfSteps

    def skip(self, length: int) -> None:
        """Pass over bytes. If they are not all there, the next opcode is not there either."""
        self.at += length

    def bytes(self, length: int) -> bytes:
        start = self.at
        self.at = end = start + length
        return self.data[start:end]

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def number(self, length: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.bytes(length), "little", signed=signed)

    def line(self) -> str:
        """Return the text up to the end of the line, an argument of GLOBAL."""
        end = self.data.index(b"\n", self.at, self.at + MAX_NAME)
        text = str(self.bytes(end - self.at), "utf-8")
        self.skip(1)
        return text

    def push_text(self, length: int) -> None:
        self.left -= 1
        self.stack.append(str(self.bytes(length), "utf-8"))

    def push_bytes(self, length: int) -> None:
        self.skip(length)
        self.stack.append(_BYTES)

    def push_empty(self, container: Any) -> None:
        self.left -= 1
        self.stack.append(container)

    def mark(self) -> None:
        self.left -= 1
        self.outer.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        if not self.outer:
            raise DamagedPickle("a mark is missing")
        values, self.stack = self.stack, self.outer.pop()
        return values

    def push_marked(self) -> None:
        values = self.since_mark()
        self.stack.append(tuple(values))

    def push_tuple(self, length: int) -> None:
        if len(self.stack) < length:
            raise DamagedPickle("a value is missing")
        self.stack[-length:] = [tuple(self.stack[-length:])]

    def store(self, index: int) -> None:
        """Keep the topmost value. Picklers number what they keep from 0; a few gaps do no harm."""
        memo, value = self.memo, self.stack[-1]
        if index == len(memo):
            memo.append(value)
            return
        if index > len(memo):
            self.spend(index - len(memo))
            memo.extend([_NOTHING] * (index + 1 - len(memo)))
        memo[index] = value

    def recall(self, index: int) -> None:
        value = self.memo[index]
        if value is _NOTHING:
            raise DamagedPickle(f"nothing was stored as {index}")
        self.stack.append(value)

    def push_global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise DamagedPickle("a global has no name")
        if len(module) + len(name) > MAX_NAME:
            raise DamagedPickle(f"the name of a global has more than {MAX_NAME} letters")
        full = f"{module}.{name}"
        self.spend(len(full) // 64)
        if full in CONSTANTS:
            self.stack.append(CONSTANTS[full])
        elif full in CALLS or full in STORAGE_DTYPES or full.startswith(MODULE_PREFIX):
            self.stack.append(Global(full))
        else:
            raise _RefusedGlobal(repr(full[:200]))

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.push_global(module, name)

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise DamagedPickle("values are added to something that is no list")
        target.extend(values)

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(pairs) % 2:
            raise DamagedPickle("items that are no pairs, or for something that is no dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            name = key if type(key) is str else self.number_key(key)
            if name in target:
                raise DamagedPickle(f"a dict has two entries {shown(name)!r}")
            target[name] = value

    def number_key(self, key: Any) -> NumberKey:
        self.spend(4)
        return NumberKey.of(key)

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def call(self) -> None:
        """REDUCE and NEWOBJ: both put a callable and its arguments on the stack."""
        args, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global):
            raise DamagedPickle("something that is not a function is called")
        if function.name.startswith(MODULE_PREFIX):  # an enum's value comes without a tuple around it
            self.spend(2)
            self.stack.append(ModuleRecord(function.name))
        elif function.name in CALLS and type(args) is tuple and len(args) <= _MAX_ARGUMENTS:
            # What is made is at most as large as what it is made of, which may be named over and over.
            self.spend(2 + sum(len(value) for value in args if isinstance(value, list | tuple)))
            self.stack.append(CALLS[function.name](args))
        else:
            raise DamagedPickle(f"{shown(function.name)} is called in an unknown way")

    def build(self) -> None:
        """BUILD: attributes of a TorchScript object; the state of anything else is dropped (`_metadata` of a dict)."""
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, ModuleRecord | Opaque | dict):
            raise DamagedPickle("state is given to something that has none")
        if not isinstance(target, ModuleRecord):
            return
        if type(state) is dict:
            self.spend(len(state))
        if type(state) is not dict or any(type(key) is not str for key in state):
            raise DamagedPickle(
                f"{shown(target.name)} packs its state in its own way; save the module's state_dict() instead"
            )
        target.attributes = state

    def load_persistent(self) -> None:
        """BINPERSID: a storage."""
        self.spend(4)
        described = self.stack.pop()
        if type(described) is tuple and len(described) <= _MAX_ARGUMENTS:
            match described:
                # Before PyTorch 1.6 a last entry told of storages that are parts of others.
                case ("storage", Global(name), str(key), _, int(numel), *part) if part in ([], [None]):
                    if name in STORAGE_DTYPES and len(key) <= MAX_NAME:
                        self.stack.append(Storage(STORAGE_DTYPES[name], key, numel))
                        return
        raise DamagedPickle("a storage is described in an unknown way")


def _refuse(code: int) -> Callable[[_Machine], None]:
    def refuse(machine: _Machine) -> None:
        raise DamagedPickle(f"opcode {_NAMES.get(code, code)} is not one that PyTorch writes")

    return refuse


_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
_STOP = ord(".")

_OPERATIONS: dict[str, Callable[[_Machine], Any]] = {
    "PROTO": lambda machine: machine.skip(1),
    "FRAME": lambda machine: machine.skip(8),
    "NONE": lambda machine: machine.stack.append(None),
    "NEWTRUE": lambda machine: machine.stack.append(True),
    "NEWFALSE": lambda machine: machine.stack.append(False),
    "BININT": lambda machine: machine.stack.append(machine.number(4, signed=True)),
    "BININT1": lambda machine: machine.stack.append(machine.byte()),
    "BININT2": lambda machine: machine.stack.append(machine.number(2)),
    "LONG1": lambda machine: machine.stack.append(machine.number(machine.byte(), signed=True)),
    "BINFLOAT": lambda machine: machine.stack.append(struct.unpack(">d", machine.bytes(8))[0]),
    "BINUNICODE": lambda machine: machine.push_text(machine.number(4)),
    "SHORT_BINUNICODE": lambda machine: machine.push_text(machine.byte()),
    "BINBYTES": lambda machine: machine.push_bytes(machine.number(4)),
    "SHORT_BINBYTES": lambda machine: machine.push_bytes(machine.byte()),
    "EMPTY_DICT": lambda machine: machine.push_empty({}),
    "EMPTY_LIST": lambda machine: machine.push_empty([]),
    "EMPTY_TUPLE": lambda machine: machine.stack.append(()),
    "MARK": _Machine.mark,
    "TUPLE": _Machine.push_marked,
    "TUPLE1": lambda machine: machine.push_tuple(1),
    "TUPLE2": lambda machine: machine.push_tuple(2),
    "TUPLE3": lambda machine: machine.push_tuple(3),
    "APPEND": lambda machine: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine: machine.extend(machine.since_mark()),
    "SETITEM": _Machine.set_item,
    "SETITEMS": lambda machine: machine.set_items(machine.since_mark()),
    "BINPUT": lambda machine: machine.store(machine.byte()),
    "LONG_BINPUT": lambda machine: machine.store(machine.number(4)),
    "MEMOIZE": lambda machine: machine.store(len(machine.memo)),
    "BINGET": lambda machine: machine.recall(machine.byte()),
    "LONG_BINGET": lambda machine: machine.recall(machine.number(4)),
    "GLOBAL": lambda machine: machine.push_global(machine.line(), machine.line()),
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.load_persistent,
}

_BY_CODE = [_OPERATIONS.get(_NAMES.get(code, ""), _refuse(code)) for code in range(256)]
