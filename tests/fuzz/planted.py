"""Readers with a fault each, by which the fuzzer shows that it can see it."""

import ctypes
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from jax_interp.errors import JaxInterpError
from tests.fuzz.mutations import ANYWHERE, CANARY
from tests.fuzz.readers import Reader

SAVED = bytes(range(100))
_FILE = "file"


def _start_a_program(content: bytes) -> Any:
    subprocess.run(["true"], check=True)


def _write_a_file(content: bytes) -> Any:
    Path(CANARY).write_bytes(content)


def _remove_a_file(content: bytes) -> Any:
    Path("case", _FILE).unlink()


def _raise_another_error(content: bytes) -> Any:
    raise KeyError(content[:3])


def _die(content: bytes) -> Any:
    os.abort()


def _send_escapes(content: bytes) -> Any:
    raise JaxInterpError("\x1b[2J")


def _compute_on(content: bytes) -> Any:
    while True:
        sum(range(1000))


def _wait(content: bytes) -> Any:
    time.sleep(1000)


def _take_much(content: bytes) -> Any:
    return len(b"x" * (300 << 20))


def _take_more_than_there_is(content: bytes) -> Any:
    return len(bytes(1 << 40))


def _take_in_other_libraries(content: bytes) -> Any:
    memory = ctypes.create_string_buffer(300 << 20)
    ctypes.memset(memory, 1, len(memory))


def _change_a_value(content: bytes) -> Any:
    return content[:-1] + b"?"


def _refuse(content: bytes) -> Any:
    raise JaxInterpError("damaged")


def _believe(content: bytes) -> Any:
    return SAVED


PLANTED = {
    _start_a_program: "executed",
    _write_a_file: "executed",
    _remove_a_file: "executed",
    _raise_another_error: "crash",
    _die: "crash",
    _send_escapes: "crash",
    _compute_on: "hang",
    _wait: "hang",
    _take_much: "memory",
    _take_more_than_there_is: "memory",
    _take_in_other_libraries: "memory",
    _change_a_value: "wrong value",
    _refuse: "refused",
    _believe: "read",
}
"""What is done with a changed file, and the class that it has to get."""


def _make(folder: Path) -> None:
    (folder / _FILE).write_bytes(SAVED)


def _reader(act: Any) -> Reader:
    def read(folder: Path) -> Any:
        content = (folder / _FILE).read_bytes()
        return {"content": content if content == SAVED else act(content)}

    return Reader(
        act.__name__, _make, (_FILE,), read, (), tuple(change for change in ANYWHERE if change.__name__ == "cut")
    )


READERS = {reader.name: reader for reader in map(_reader, PLANTED)}
