"""Errors that a user can fix. The command line prints their message, no traceback, and exits with `exit_code`."""

import signal
from typing import Any

TRACEBACK = "JAX_INTERP_TRACEBACK"
"""The environment variable that, set to 1, makes the program print where an error was raised."""
INTERRUPTED = 130
"""The exit code after Ctrl-C."""

_MAX_FOREIGN = 1000
"""The number of characters that are shown of the message of an error that is not ours."""


class JaxInterpError(Exception):
    """An error whose cause is outside the program; the message names it, says what was expected and what to do."""

    exit_code = 1
    in_all_processes = False
    """Whether every process of a run raises it, so that none has to end the others."""


class UsageError(JaxInterpError, ValueError):
    """An argument or flag has a value that cannot work."""

    exit_code = 2


class CheckpointError(JaxInterpError):
    """A checkpoint (PyTorch archive or converted folder) is missing, damaged or not what it should be."""

    exit_code = 3


class MediaError(JaxInterpError):
    """A video, picture or folder of frames cannot be read or written."""

    exit_code = 4


class OutOfMemory(JaxInterpError):
    """A GPU's or the host's memory does not hold what a run needs."""

    exit_code = 6


class DownloadError(JaxInterpError):
    """A file cannot be fetched from the hub."""

    exit_code = 5


class ProcessFailure(JaxInterpError):
    """One of the processes that work together failed, died, did not come or differs from the others."""

    exit_code = 7


class ParityError(JaxInterpError):
    """A converted network is not, or does not compute, what its checkpoint and PyTorch say."""

    exit_code = 9


class Ended(BaseException):
    """A signal asks the program to end. It is no `Exception`, as `KeyboardInterrupt`, so it is not caught by chance."""

    def __init__(self, number: int):
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number
        self.exit_code = 128 + number  # as shells report it


class Blocked(JaxInterpError):
    """The guardrails do not let `what` ("the prompt", "clip.mp4") pass, or could not tell whether it may."""

    exit_code = 8

    def __init__(self, what: str, verdict: Any):
        """`verdict` is the `guardrails.verdict.Verdict` that says why."""
        category = f" (category {verdict.category})" if verdict.category else ""
        super().__init__(f"{what} is blocked by the guardrails{category}: {verdict.reason}")
        self.verdict = verdict


def explain(error: BaseException) -> tuple[str, int]:
    """Return the message of `error` for the user, and the exit code of a program that it ends."""
    try:
        text = str(error)
    except Exception:  # of an error that cannot even be shown
        text = ""
    if isinstance(error, JaxInterpError):
        return text, error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if isinstance(error, Ended):
        return text, error.exit_code
    shown = text if len(text) <= _MAX_FOREIGN else f"{text[:_MAX_FOREIGN]}..."
    named = f"{type(error).__name__}: {shown}" if shown else type(error).__name__
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        advice = "end other programs, or use less; `jax-interp memory` says what a run takes"
        return f"out of memory ({named}): {advice}", OutOfMemory.exit_code
    if isinstance(error, OSError):  # the system's own words name the file
        return text or named, JaxInterpError.exit_code
    return f"unexpected {named}; {TRACEBACK}=1 in the environment shows where it was raised", JaxInterpError.exit_code
