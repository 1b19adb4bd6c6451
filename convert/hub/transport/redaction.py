"""The user's token stays out of everything that is printed, logged or raised, also where a hub sends it back."""

import contextlib
import logging
import re
from collections.abc import Iterator

HIDDEN = "<token>"
# Who logs while the hub is talked to: this package, and libraries that repeat the headers of its answers.
_SPEAKERS = ("jax_interp", "huggingface_hub", "httpx", "httpcore")
_CREDENTIALS_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")


class Redaction(logging.Filter):
    """A filter that takes one token out of text and, as a logging filter, out of log records."""

    def __init__(self, token: str | None) -> None:
        super().__init__()
        self._token = re.compile("".join(map(_spellings, token)), re.IGNORECASE) if token else None

    def clean(self, text: str) -> str:
        """Return `text` without the token, plain or percent-encoded, without passwords in URLs and without control
        characters, which a hub could use to rewrite the terminal."""
        if self._token:
            text = self._token.sub(HIDDEN, text)
        text = _CREDENTIALS_IN_URL.sub("", text)
        return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean the record and keep it."""
        record.msg, record.args = self.clean(record.getMessage()), ()
        return True

    @contextlib.contextmanager
    def of_logs(self) -> Iterator[None]:
        """Clean what is logged inside; a filter of a parent logger would not see its children's records."""
        names = [name for name in logging.root.manager.loggerDict if name.startswith(_SPEAKERS)]
        loggers = [logging.getLogger(name) for name in names]
        for logger in loggers:
            logger.addFilter(self)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(self)


def _spellings(char: str) -> str:
    """Return a pattern for the character itself and for its percent-encoded form, as in `%5F` for `_`."""
    encoded = "".join(f"%{byte:02x}" for byte in char.encode())
    return f"(?:{re.escape(char)}|{encoded})"
