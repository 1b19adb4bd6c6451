"""The single place where every failure of a guardrail becomes a verdict that blocks."""

import atexit
import logging
import queue
import threading
from collections.abc import Callable

from jax_interp.errors import JaxInterpError
from jax_interp.guardrails.verdict import Verdict
from jax_interp.pipeline.safety.settings import TIMEOUT, check_timeout
from jax_interp.runtime.host import out_of_memory

logger = logging.getLogger("jax_interp")

_GRACE = 10.0
"""Seconds that the program waits at its end for a check that was abandoned."""

_MAX_CAUSE_LENGTH = 400
"""The largest number of characters that are shown of another library's error message."""

WITHOUT_GUARDRAILS = "or generate without guardrails (`generate --disable-guardrail`, in Python guardrails=False)"
"""The end of an advice."""


class FailClosed:
    """Runs checks one at a time, each in its own thread, which is given `timeout` seconds.

    Every exception that a check raises blocks, whatever its class, and so does an answer that is no verdict; only an
    interrupt of the waiting thread is passed on. A thread cannot be ended: once a check was abandoned, every later
    check is refused with a verdict that blocks, because the abandoned one may still be using the networks.
    """

    def __init__(self, timeout: float = TIMEOUT):
        """Raise `UsageError` unless `timeout` is a number of seconds that can be waited."""
        check_timeout(timeout)
        self.timeout = timeout
        self._left: str | None = None

    @property
    def broken(self) -> bool:
        """Whether a check was abandoned while it ran, so that the networks must not be touched."""
        return self._left is not None

    def run(self, guardrail: str, component: str, check: Callable[[], Verdict]) -> Verdict:
        """Return the verdict of `check`, or one that blocks if it fails.

        `guardrail` is the check's name and `component` the converted network that it needs, both for messages.
        """
        if self._left is not None:
            return Verdict.block(
                f"the check of {self._left} was not waited for to its end and may still be running; start again"
            )
        try:
            verdict = self._in_time(guardrail, check)
            if isinstance(verdict, Exception):
                raise verdict
            if isinstance(verdict, BaseException):  # Rust's panics, for one, are no `Exception`
                raise RuntimeError(f"{type(verdict).__name__}: {verdict}") from verdict
            if type(verdict) is not Verdict or type(verdict.allowed) is not bool:
                raise TypeError(f"it answered {verdict!r:.80}, which is no verdict")
        except Exception as error:
            logger.debug("%s failed", guardrail, exc_info=error)
            return Verdict.block(_reason(error, component))
        return verdict

    def _in_time(self, guardrail: str, check: Callable[[], Verdict]) -> Verdict | BaseException:
        """Return what `check` returns or what it raises; raise `JaxInterpError` if it takes too long."""
        ended: queue.SimpleQueue[Verdict | BaseException] = queue.SimpleQueue()

        def work() -> None:
            try:
                ended.put(check())
            except BaseException as error:
                ended.put(error)

        self._left = guardrail
        thread = threading.Thread(target=work, name=f"guardrail {guardrail}", daemon=True)
        try:
            thread.start()
        except Exception:
            self._left = None  # nothing was started
            raise
        try:
            answer = ended.get(timeout=self.timeout)
        except BaseException as error:
            # A thread that returns from a library after Python has shut down aborts the process.
            atexit.register(thread.join, _GRACE)
            if not isinstance(error, queue.Empty):
                raise
            raise JaxInterpError(
                f"it took longer than {self.timeout:g} s; allow more (--guardrail-timeout), or place the guardrails"
                " where they are faster (--placement)"
            ) from None
        self._left = None
        return answer


def _reason(error: BaseException, component: str) -> str:
    """Return a reason that says what went wrong and what to do about it."""
    try:
        message, full = str(error), out_of_memory(error)
    except Exception:  # the error's own `__str__` may fail
        message, full = "", False
    if isinstance(error, JaxInterpError):  # its message says what to do
        return f"it could not tell: {message}, {WITHOUT_GUARDRAILS}"
    cause = f"{type(error).__name__}: {' '.join(message.split())[:_MAX_CAUSE_LENGTH]}".removesuffix(": ")
    if full:
        return (
            f"it could not tell, because memory ran out ({cause}): offload or stream the guardrails (--placement),"
            f" {WITHOUT_GUARDRAILS}"
        )
    return (
        f"it could not tell ({cause}): look at the {component} with `jax-interp inspect`, convert it again"
        f" (`jax-interp convert --components {component} --overwrite`), {WITHOUT_GUARDRAILS}"
    )
