"""The ways in which a request to the hub can fail, and which failures another try may mend."""

from importlib import import_module
from typing import Any

from huggingface_hub.errors import HfHubHTTPError

# The HTTP library below huggingface_hub has changed its name once, from httpx to httpx2; its errors are those of both.
_http = import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])
TransportError: type[Exception] = _http.HTTPError
InvalidAddress: type[Exception] = _http.InvalidURL
UNREACHABLE: tuple[type[Exception], ...] = (_http.ConnectError, _http.ConnectTimeout)
"""Errors where no connection came about: the address, the name server, the network or a certificate is wrong."""
STALLED: tuple[type[Exception], ...] = (_http.ReadTimeout, _http.WriteTimeout)
"""Errors where nothing was received or sent within the timeout."""
BROKEN: tuple[type[Exception], ...] = (_http.TimeoutException, _http.NetworkError, _http.RemoteProtocolError)
"""Errors of the connection, including the two kinds above; the next connection may work."""

MAX_TEXT = 200
"""The number of characters of the hub's own words that a message repeats."""


class HubFault(Exception):
    """The hub cannot be reached, or its response is not what was asked for."""

    transient = False
    """Whether another try may help."""
    unresumable = False
    """Whether only the rest of a file cannot be had, so that it has to be fetched from its start."""


class Unusable(HubFault):
    """The proxies or certificates that this machine's environment names cannot be used."""


class BadResponse(HubFault):
    """The response is not what was asked for; the text continues the words "the hub's answer"."""

    def __init__(self, text: str, *, transient: bool = False, unresumable: bool = False, remedy: str = "") -> None:
        super().__init__(text)
        self.transient, self.unresumable, self.remedy = transient, unresumable, remedy


class ErrorResponse(HubFault):
    """A response with an error status. Its body, which may be of any size and kind, is not read."""

    def __init__(self, status: int, headers: Any) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.headers = headers
        self.code: str = headers.get("X-Error-Code", "")
        """The hub's name of the cause: RepoNotFound, RevisionNotFound, EntryNotFound, GatedRepo."""
        self.text: str = headers.get("X-Error-Message", "")[:MAX_TEXT]
        # 408: too slow, 416: no such part of the file, 429: too many requests, 500 and above: the hub is in trouble
        self.transient = status in (408, 416, 429) or status >= 500
        self.unresumable = status == 416


def is_transient(error: Exception) -> bool:
    """Tell whether another try may help."""
    return isinstance(error, BROKEN) or (isinstance(error, HubFault) and error.transient)
