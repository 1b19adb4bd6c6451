"""One request to the hub: redirects never carry the token to another host, and no body is read without bound."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from huggingface_hub.utils import get_session

from convert.hub.transport.faults import STALLED, BadResponse, ErrorResponse, InvalidAddress, TransportError, Unusable
from convert.hub.transport.watchdog import Watchdog
from jax_interp.byte_sizes import format_bytes

MAX_REDIRECTS = 10


def session() -> Any:
    """Return the HTTP client that huggingface_hub shares, with the proxies and certificates of the environment.

    Raises:
        Unusable: the proxies or certificates cannot be used.
    """
    try:
        return get_session()
    except (ValueError, ImportError, OSError, InvalidAddress) as error:
        raise Unusable(str(error)) from error


@contextlib.contextmanager
def open_response(
    method: str, url: str, headers: dict[str, str], watch: Watchdog, leave_origin: bool = True
) -> Iterator[Any]:
    """Open a request and yield its response, whose body is still to be read.

    Redirects are followed, those to another host only with `leave_origin`; without, such a redirect is the response.
    The HTTP library sends the token to the host that was asked, and to no other.

    Raises:
        ErrorResponse: an error status.
        BadResponse: redirects without end, out of TLS, or to something else than the web; a compressed body, which was
            not asked for and would be of unknown size; next to nothing for as long as `watch` waits.
    """
    try:
        with _final_response(method, url, headers, watch, leave_origin) as response:
            yield response
    except TransportError as error:
        if watch.expired or isinstance(error, STALLED):
            raise _too_slow(watch) from error
        raise


@contextlib.contextmanager
def _final_response(
    method: str, url: str, headers: dict[str, str], watch: Watchdog, leave_origin: bool
) -> Iterator[Any]:
    client = session()
    # Every exchange has a connection of its own, so that the watchdog knows it.
    headers = {"Accept-Encoding": "identity", "Connection": "close"} | headers
    request = client.build_request(
        method, url, headers=headers, timeout=watch.timeout, extensions={"trace": watch.trace}
    )
    for _ in range(MAX_REDIRECTS + 1):
        with contextlib.closing(client.send(request, stream=True, follow_redirects=False)) as response:
            watch.headers_arrived()
            if not response.has_redirect_location:
                _check(response)
                yield response
                return
            following = _redirected(request, response)
            if not leave_origin and _origin(following.url) != _origin(request.url):
                yield response
                return
        request = following
    raise BadResponse(f"redirects more than {MAX_REDIRECTS} times")


def read_bounded(response: Any, watch: Watchdog, most: int) -> bytes:
    """Read and return the whole body.

    Raises:
        BadResponse: it has more than `most` bytes, or came too slowly.
    """
    body = bytearray()
    for chunk in response.iter_raw():
        watch.feed(len(chunk))
        body += chunk
        if len(body) > most:
            raise BadResponse(f"is longer than {format_bytes(most, 'MB', digits=0)}")
    check_speed(watch)
    return bytes(body)


def check_speed(watch: Watchdog) -> None:
    """Raise `BadResponse` if the watchdog closed the connection, whose end is then not the end of the file."""
    if watch.expired:
        raise _too_slow(watch)


def _too_slow(watch: Watchdog) -> BadResponse:
    return BadResponse(f"brought next to nothing in {watch.timeout:g} seconds", transient=True)


def content_type(response: Any) -> str:
    """Return the content type of the response for messages, as `text/html`; empty if it states none."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip()[:50]


def content_length(response: Any) -> int | None:
    """Return how many bytes the body has by its header `Content-Length`; None if it states none."""
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"\d{1,18}", text) else None


def _check(response: Any) -> None:
    if response.status_code >= 400:
        raise ErrorResponse(response.status_code, response.headers)
    if response.status_code not in (200, 206):
        raise BadResponse(f"has the status {response.status_code}", transient=True)
    encoding = response.headers.get("Content-Encoding", "identity")[:50]
    if encoding.lower() != "identity":
        raise BadResponse(f"is compressed ({encoding}), which was not asked for; a proxy of the network may do that")


def _redirected(request: Any, response: Any) -> Any:
    following = response.next_request
    if following is None or following.url.scheme not in ("http", "https"):
        raise BadResponse("redirects to what is no address on the web")
    if request.url.scheme == "https" and following.url.scheme != "https":
        raise BadResponse(f"redirects from https to http ({following.url.host}), where others could read along")
    return following


def _origin(url: Any) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
