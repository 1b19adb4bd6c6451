"""One exchange with the hub: redirects that keep the token at home, and bodies that are never read without bound."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from huggingface_hub.utils import get_session

from convert.hub.faults import STALLED, BadAnswer, InvalidAddress, Refusal, TransportError, Unusable
from convert.hub.watchdog import Watchdog
from jax_interp.byte_sizes import format_bytes

MOST_REDIRECTS = 10


def session() -> Any:
    """The HTTP client that huggingface_hub shares, with the proxies and certificates of the environment.

    Raises:
        Unusable: these are not right.
    """
    try:
        return get_session()
    except (ValueError, ImportError, OSError, InvalidAddress) as error:
        raise Unusable(str(error)) from error


@contextlib.contextmanager
def answer(method: str, url: str, headers: dict[str, str], watch: Watchdog, leave_origin: bool = True) -> Iterator[Any]:
    """The hub's response, with its body still to be read; without `leave_origin` also a redirect to another host.

    The HTTP library sends the token along to the host that was asked, and to no other.

    Raises:
        Refusal: an error status.
        BadAnswer: redirects without end, out of TLS, or to something else than the web; a compressed body, which was
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
        method, url, headers=headers, timeout=watch.patience, extensions={"trace": watch.trace}
    )
    for _ in range(MOST_REDIRECTS + 1):
        with contextlib.closing(client.send(request, stream=True, follow_redirects=False)) as response:
            watch.answered()
            if not response.has_redirect_location:
                _check(response)
                yield response
                return
            following = _redirected(request, response)
            if not leave_origin and _origin(following.url) != _origin(request.url):
                yield response
                return
        request = following
    raise BadAnswer(f"redirects more than {MOST_REDIRECTS} times")


def read_bounded(response: Any, watch: Watchdog, most: int) -> bytes:
    """The whole body.

    Raises:
        BadAnswer: it has more than `most` bytes, or came too slowly.
    """
    body = bytearray()
    for chunk in response.iter_raw():
        watch.feed(len(chunk))
        body += chunk
        if len(body) > most:
            raise BadAnswer(f"is longer than {format_bytes(most, 'MB', digits=0)}")
    check_pace(watch)
    return bytes(body)


def check_pace(watch: Watchdog) -> None:
    """Raise `BadAnswer` if the connection was given up: its end then is no end of the file."""
    if watch.expired:
        raise _too_slow(watch)


def _too_slow(watch: Watchdog) -> BadAnswer:
    return BadAnswer(f"brought next to nothing in {watch.patience:g} seconds", passing=True)


def content_type(response: Any) -> str:
    """What the answer says it is, for messages: `text/html`, or nothing."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip()[:50]


def stated_length(response: Any) -> int | None:
    """Bytes that the body is said to have."""
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"\d{1,18}", text) else None


def _check(response: Any) -> None:
    if response.status_code >= 400:
        raise Refusal(response.status_code, response.headers)
    if response.status_code not in (200, 206):
        raise BadAnswer(f"has the status {response.status_code}", passing=True)
    encoding = response.headers.get("Content-Encoding", "identity")[:50]
    if encoding.lower() != "identity":
        raise BadAnswer(f"is compressed ({encoding}), which was not asked for; a proxy of the network may do that")


def _redirected(request: Any, response: Any) -> Any:
    following = response.next_request
    if following is None or following.url.scheme not in ("http", "https"):
        raise BadAnswer("redirects to what is no address on the web")
    if request.url.scheme == "https" and following.url.scheme != "https":
        raise BadAnswer(f"redirects from https to http ({following.url.host}), where others could read along")
    return following


def _origin(url: Any) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
