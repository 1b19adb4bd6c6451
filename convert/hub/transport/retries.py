"""Try again, but neither at once nor for ever: waits that grow, and those that the hub asks for."""

import datetime
import email.utils
import logging
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from huggingface_hub.utils import parse_ratelimit_headers

from convert.hub.transport.faults import ErrorResponse, is_transient
from jax_interp.errors import DownloadError

logger = logging.getLogger("jax_interp")

MAX_BACKOFF = 60.0
"""The longest wait in seconds up to which waits double."""
MAX_RETRY_AFTER = 600.0
"""The longest wait in seconds that the hub may ask for. The public hub counts requests over five minutes; whether to
wait longer is for the user to decide."""


@dataclass
class Retries:
    """The tries at one request, which `subject` names: at most `attempts` in a row without progress."""

    subject: str
    attempts: int
    backoff: float
    """Seconds before the second try; the wait doubles with each further try."""
    failures: int = 0
    """The number of failures in a row."""

    @property
    def is_last(self) -> bool:
        """Whether the next try is the last one."""
        return self.failures == self.attempts - 1

    def wait(self, error: Exception, cause: str, progress: bool = False) -> None:
        """Wait before the next try; `progress` says that the last one brought something before it ended with `error`.

        Raises:
            DownloadError: the hub asks to wait for longer than `MAX_RETRY_AFTER`.
            Exception: `error` itself, after the last try or where no other try would help.
        """
        self.failures = 1 if progress else self.failures + 1
        if self.failures >= self.attempts or not is_transient(error):
            raise error
        asked = retry_after(error.headers) if isinstance(error, ErrorResponse) else None
        if asked is not None and asked > MAX_RETRY_AFTER:
            raise DownloadError(
                f"{self.subject}: {cause}. The hub asks to wait for {_duration(asked)}; "
                "run this command again then: it goes on where it stopped"
            )
        # Jitter: machines that were cut off together do not come back together.
        pause = min(self.backoff * 2 ** (self.failures - 1), MAX_BACKOFF) * random.uniform(0.75, 1.25)
        if asked is not None:
            pause = max(pause, asked)
        logger.warning(
            "%s: %s. Trying again in %s%s (try %d of %d)",
            self.subject,
            cause,
            _duration(pause),
            "" if asked is None else ", as the hub asks",
            self.failures + 1,
            self.attempts,
        )
        time.sleep(pause)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return seconds that the hub asks to wait: `Retry-After` as a number or a date, else the end of its rate limit."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) < 15 else math.inf
    if (moment := _moment(text)) is not None:
        # by the hub's own clock, if it tells: the one here may be wrong
        now = _moment(headers.get("Date", ""))
        return max(0.0, moment - (time.time() if now is None else now))
    try:
        limit = parse_ratelimit_headers(headers)
    except ValueError:  # numbers of thousands of digits
        return None
    return float(min(limit.reset_in_seconds, 10**15)) if limit and limit.remaining == 0 else None


def _moment(date: str) -> float | None:
    """Return seconds since 1970 of an HTTP date; None if it is none."""
    try:
        parsed = email.utils.parsedate_to_datetime(date)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 10**7 else "months"
