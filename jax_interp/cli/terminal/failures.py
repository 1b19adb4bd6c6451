"""How the program ends when something goes wrong: one message and an exit code. Imports next to nothing."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from jax_interp import terminal


@contextmanager
def explained() -> Iterator[None]:
    """End the program with a message and an exit code (`errors.explain`) if anything is raised inside."""
    try:
        yield
    except SystemExit:
        raise
    except BaseException as error:
        sys.exit(terminal.show_failure(error))


def prepare_process() -> None:
    """What the program does to the process that is its own, before anything else.

    Standard streams that are closed are opened on nothing: the next file that is opened would otherwise get the number
    of one, and with it whatever libraries print there. Errors that Python would only print, of threads and of objects
    that are taken down, are printed as others are.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    threading.excepthook = _show_unraised
    sys.unraisablehook = _show_unraised


def _show_unraised(unraised: Any) -> None:
    if unraised.exc_value is not None and not isinstance(unraised.exc_value, SystemExit):
        with suppress(Exception):
            terminal.show_failure(unraised.exc_value)
