"""Errors that a user can mend. The command line prints their message and exits with `exit_code`; no traceback."""

import signal
from typing import Any


class JaxInterpError(Exception):
    """Something outside the program is wrong; the message names it, says what was expected and what to do."""

    exit_code = 1
    in_all_processes = False
    """Whether every process of a run raises it: none then has to end the others."""


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
    """Of the processes that work together, one failed, died, did not come or is not like the others."""

    exit_code = 7


class Ended(BaseException):
    """A signal asks the program to end; like `KeyboardInterrupt` it is no error, and nothing catches it by chance."""

    def __init__(self, number: int):
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = 128 + number  # as shells report it


class Blocked(JaxInterpError):
    """The guardrails do not let `what` ("the prompt", "clip.mp4") pass, or could not tell whether it may."""

    exit_code = 8

    def __init__(self, what: str, verdict: Any):
        """`verdict` is the `guardrails.verdict.Verdict` that says why."""
        category = f" (category {verdict.category})" if verdict.category else ""
        super().__init__(f"{what} is blocked by the guardrails{category}: {verdict.reason}")
        self.verdict = verdict
