"""The name and the password of the server: asked of every request, and slow to guess."""

import base64
import binascii
import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from jax_interp.app.settings import Access

MOST_FAILURES = 10
"""The wrong passwords that are answered in `WINDOW`; after them none is looked at, not even the right one."""
WINDOW = 60.0
_REMEMBERED = 10_000
"""The addresses, and the users, that are remembered; those that were seen first are forgotten."""


class SignIn:
    """Decides who may come in.

    Wrong passwords are counted by the address that they come from. A user who was let in once is counted alone, by the
    token that tells users apart: somebody who guesses from behind the same proxy does not lock the others out.
    """

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic):
        self._access, self._clock = access, clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def refusal(self, authorization: str, address: str, token: str) -> tuple[int, str] | None:
        """Return the status and the words with which a request is refused; None if it may pass.

        `authorization` is the header of that name, `address` the client's, and `token` the user's, empty if unknown.
        """
        if self._access.user is None:
            return None
        if not authorization:
            return 401, "sign in with the name and the password of this server"
        by = token if token in self._known else _network(address)
        if self._failed(by) >= MOST_FAILURES:
            return 429, f"too many wrong passwords; try again in {WINDOW:.0f} seconds"
        if self._is_right(authorization):
            if token:
                _remember(self._known, token, None)
            return None
        since = self._failures[by][0] if self._failed(by) else self._clock()
        _remember(self._failures, by, (since, self._failed(by) + 1))
        return 401, "the name or the password is wrong"

    def _failed(self, by: str) -> int:
        """Return how many wrong passwords came in the window that is open now."""
        since, failed = self._failures.get(by, (0.0, 0))
        return failed if self._clock() - since < WINDOW else 0

    def _is_right(self, authorization: str) -> bool:
        kind, _, coded = authorization.partition(" ")
        try:
            given = base64.b64decode(coded, validate=True) if kind.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(given, f"{self._access.user}:{self._access.password}".encode())


def _remember(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
    kept[name] = value
    if len(kept) > _REMEMBERED:
        kept.popitem(last=False)


def _network(address: str) -> str:
    """Return what stands for a client: of IPv6 the network of 64 bits, all of which is mostly one customer's."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((ip, 64), strict=False)) if ip.version == 6 else address
