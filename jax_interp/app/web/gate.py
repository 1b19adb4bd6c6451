"""The door of the server: every request passes here before Gradio or a result is reached.

It lets only known addresses through, so that what else Gradio could serve (files, proxies, its monitoring) is not
there; asks for the password; refuses other hosts' pages, bodies that are too large, and files that were not uploaded;
and tells users apart.
"""

import base64
import binascii
import hmac
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from jax_interp.app.settings import Access, Limits, is_loopback
from jax_interp.app.uploads import is_upload, uploaded_bytes

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

OWNER_HEADER = "x-owner"
"""The header by which a program says who it is, and by which the handlers behind the gate are told."""
OWNER_COOKIE = "jax_interp_owner"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}")

MOST_BODY = 1 << 18
"""The bytes of a request that is no upload."""
_FORM_BYTES = 1 << 20
"""The bytes that the form of an upload has beside its files."""
_UPLOADS_KEPT = 10
"""How many of the largest uploads may lie there before jobs are made of them."""

_OPEN = {
    "GET": re.compile(
        r"/|/config|/theme\.css|/favicon\.ico|/robots\.txt|/(assets|static|svelte)/[\w./@+-]+|/gradio_api/(info|"
        r"startup-events|app_id|theme\.css|upload_progress|queue/data|heartbeat/\w+|call/\w+/\w+)|/results/[\w./-]+"
    ),
    "POST": re.compile(r"/gradio_api/(upload|queue/join|cancel|reset|call/\w+)"),
}
_OPEN["HEAD"] = _OPEN["GET"]

# The page itself may load nothing from elsewhere; Gradio's own scripts need inline code.
_PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self';"
    " worker-src 'self' blob:; frame-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self';"
    " frame-ancestors 'self'"
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class _Refused(Exception):
    """What came is not passed on: the status, and the words."""


class Gate:
    """The ASGI application around `inner`."""

    def __init__(self, inner: Application, access: Access, limits: Limits, uploads: Path):
        self._inner, self._access, self._limits, self._uploads = inner, access, limits, uploads

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a socket is closed; nothing here needs one
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if (refused := self._refusal(scope, headers)) is not None:
            await _answer(send, *refused)
            return
        token, is_new = self._owner(scope, headers)
        kept = [(name, value) for name, value in scope["headers"] if name.lower() != OWNER_HEADER.encode()]
        scope = dict(scope, headers=kept + ([(OWNER_HEADER.encode(), token.encode())] if token else []))
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = dict(message, headers=list(_guarded(message["headers"], token if is_new else None)))
            await send(message)

        receive = _limited(receive, self._most(scope), self._too_large())
        try:
            if scope["method"] == "POST" and not scope["path"].endswith("/upload"):
                receive = await self._read_call(receive)
            await self._inner(scope, receive, send_guarded)
        except _Refused as refused:
            if not started:
                await _answer(send, *refused.args)

    def _refusal(self, scope: Message, headers: dict[str, str]) -> tuple[int, str] | None:
        """Return the status and the words with which a request is refused; None if it may pass."""
        if not self._is_known_host(headers.get("host", "")):
            return 403, f"this server is for {self._access.host} alone"
        if not _is_own_page(headers):
            return 403, "another site's page may not ask this server for anything"
        if not self._is_signed_in(headers.get("authorization", "")):
            return 401, "sign in with the name and the password of this server"
        path, method = scope["path"], scope["method"]
        if method not in _OPEN or not _OPEN[method].fullmatch(path) or ".." in path:
            return 404, "there is nothing at this address"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 18:
            return 400, "the length of the request is no number"
        if int(length) > self._most(scope):
            return 413, self._too_large()
        if path.endswith("/upload") and uploaded_bytes(self._uploads) > _UPLOADS_KEPT * self._limits.upload_bytes:
            return 503, "too many uploads wait for jobs to be made of them; try again later"
        return None

    def _most(self, scope: Message) -> int:
        return self._limits.upload_bytes + _FORM_BYTES if scope["path"].endswith("/upload") else MOST_BODY

    def _too_large(self) -> str:
        return f"too large: uploads may have {self._limits.upload_bytes / 1e6:.0f} MB, other requests much less"

    async def _read_call(self, receive: Receive) -> Receive:
        """Read the JSON of a call, and return what gives it to Gradio, unless it names a file that is no upload.

        Gradio would copy any file of this machine, and fetch any address, that a call names: where it is mounted in
        another application it does not check that the file was uploaded.
        """
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return receive  # who asked is gone
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            called = json.loads(body) if body else None
            body = json.dumps(called).encode() if body else b""  # what was looked at, whatever stood there twice
        except (ValueError, RecursionError):
            raise _Refused(400, "expected a call as JSON") from None
        for path in _paths_in(called):
            if not is_upload(path, self._uploads):
                raise _Refused(400, "a call names a file that was not uploaded here; upload it again")
        given = False

        async def give() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return give

    def _is_known_host(self, host: str) -> bool:
        """Whether the address in the browser is this machine's: a foreign name could be made to point here."""
        if not is_loopback(self._access.host):
            return True
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return name is not None and is_loopback(name)

    def _is_signed_in(self, authorization: str) -> bool:
        if self._access.user is None:
            return True
        kind, _, coded = authorization.partition(" ")
        try:
            given = base64.b64decode(coded, validate=True) if kind.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(given, f"{self._access.user}:{self._access.password}".encode())

    def _owner(self, scope: Message, headers: dict[str, str]) -> tuple[str, bool]:
        """Return the token of who asks and whether it was made just now; empty for a program that has none."""
        if _TOKEN.fullmatch(given := headers.get(OWNER_HEADER, "")):
            return given, False
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(OWNER_COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None and _TOKEN.fullmatch(cookie.value):
            return cookie.value, False
        return (secrets.token_urlsafe(32), True) if scope["path"] == "/" else ("", False)


def _is_own_page(headers: dict[str, str]) -> bool:
    """Whether a request comes from this server's page, or from a program, which names no page."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _guarded(headers: Headers, token: str | None) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers of an answer with ours; `token` is given to the browser to keep."""
    names = {name.lower() for name, _ in headers}
    yield from headers
    for name, value in _HEADERS.items():
        yield name.encode(), value.encode()
    if b"content-security-policy" not in names:
        yield b"content-security-policy", _PAGE_POLICY.encode()
    if token is not None:
        cookie = f"{OWNER_COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000"
        yield b"set-cookie", cookie.encode()


def _limited(receive: Receive, most: int, words: str) -> Receive:
    """Return `receive` that refuses, in `words`, when more than `most` bytes have come, whatever was claimed."""
    seen = 0

    async def receive_counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise _Refused(413, words)
        return message

    return receive_counted


def _paths_in(called: Any) -> Iterator[Any]:
    """Yield the value of every key "path" in JSON values, however deep it lies."""
    left = [called]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if "path" in value:
                yield value["path"]
            left += value.values()
        elif isinstance(value, list):
            left += value


async def _answer(send: Send, status: int, text: str) -> None:
    body = f"{text}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="jax-interp", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": list(_guarded(headers, None))})
    await send({"type": "http.response.body", "body": body})
