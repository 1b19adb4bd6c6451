"""The end of the program when something fails: one message and an exit code. Imports next to nothing."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from jax_interp import terminal


@contextmanager
def explained() -> Iterator[None]:
    """End the program with a message and an exit code (`errors.explain`) if the block raises anything."""
    try:
        yield
    except SystemExit:
        raise
    except BaseException as error:
        sys.exit(terminal.show_failure(error))


def prepare_process() -> None:
    """Prepare the process, which belongs to the program, before anything else runs in it.

    Closed standard streams are opened on the null device; otherwise the next file to be opened would get the number of
    one, and with it everything that libraries print there. Errors that Python would only print, those of threads and of
    objects being finalized, are printed as other errors are.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # this gets the lowest number that is free
    threading.excepthook = _show_unraised
    sys.unraisablehook = _show_unraised


def _show_unraised(unraised: Any) -> None:
    if unraised.exc_value is not None and not isinstance(unraised.exc_value, SystemExit):
        with suppress(Exception):
            terminal.show_failure(unraised.exc_value)
