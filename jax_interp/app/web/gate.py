"""The door of the server: every request passes here before Gradio or a result is reached.

It lets only known addresses through, so that what else Gradio could serve (files, proxies, its monitoring) is not
there; asks for the password; refuses other hosts' pages, bodies that are too large, and files that were not uploaded;
and tells users apart.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import nullcontext
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect

from jax_interp.app.settings import Access, Limits, is_loopback
from jax_interp.app.web.calls import VALUES, checked_call
from jax_interp.app.web.sign_in import WINDOW, SignIn
from jax_interp.app.web.upload_room import UploadRoom
from jax_interp.errors import UsageError

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

_CALLS = "|".join(VALUES)
_OPEN = {
    "GET": re.compile(
        r"/|/config|/theme\.css|/favicon\.ico|/robots\.txt|/(assets|static|svelte)/[\w./@+-]+|/gradio_api/(info|"
        rf"startup-events|app_id|theme\.css|upload_progress|queue/data|heartbeat/\w+|call/({_CALLS})/\w+)"
        r"|/results/[\w./-]+"
    ),
    "POST": re.compile(rf"/gradio_api/(upload|queue/join|cancel|reset|call/({_CALLS}))"),
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

_CLOSE = (b"connection", b"close")
"""Goes with an answer that is given before the body is over, of which the rest would be read and thrown away."""


class _Refused(Exception):
    """What came is not passed on: the status, and the words."""


class Gate:
    """The ASGI application around `inner`."""

    def __init__(self, inner: Application, access: Access, limits: Limits, uploads: Path):
        self._inner, self._access, self._limits, self._uploads = inner, access, limits, uploads
        self._sign_in, self._room = SignIn(access), UploadRoom(uploads, limits.upload_bytes)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a socket is closed; nothing here needs one
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        token, is_new = self._owner(scope, headers)
        if (refused := self._refusal(scope, headers, token)) is not None:
            await _answer(send, *refused)
            return
        kept = [(name, value) for name, value in scope["headers"] if name.lower() != OWNER_HEADER.encode()]
        scope = dict(scope, headers=kept + ([(OWNER_HEADER.encode(), token.encode())] if token else []))
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        body = _Body(receive, self._most(scope), self._too_large(), is_over=not has_body)
        answer = _Answer(send, body, token if is_new else None)
        is_upload_now = _is_upload(scope)
        with self._room.taken(_length(headers, self._most(scope))) if is_upload_now else nullcontext():
            try:
                given = body.receive
                if scope["method"] == "POST" and not is_upload_now:
                    given = await self._read_call(given, scope["path"])
                await self._inner(scope, given, answer.send)
            except _Refused as refused:
                await answer.refuse(refused)
            except ClientDisconnect:
                return
            except Exception:
                if body.refused is None:
                    raise
        if body.refused is not None:
            await answer.refuse(body.refused)

    def _refusal(self, scope: Message, headers: dict[str, str], token: str) -> tuple[int, str] | None:
        """Return the status and the words with which a request is refused; None if it may pass."""
        if not self._is_known_host(headers.get("host", "")):
            return 403, f"this server is for {self._access.host} alone"
        if not _is_own_page(headers):
            return 403, "another site's page may not ask this server for anything"
        client = (scope.get("client") or ("",))[0]
        if (refused := self._sign_in.refusal(headers.get("authorization", ""), client, token)) is not None:
            return refused
        path, method = scope["path"], scope["method"]
        if method not in _OPEN or not _OPEN[method].fullmatch(path) or ".." in path:
            return 404, "there is nothing at this address"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 18:
            return 400, "the length of the request is no number"
        if int(length) > self._most(scope):
            return 413, self._too_large()
        if _is_upload(scope) and not self._room.has(_length(headers, self._most(scope))):
            return 503, "too many uploads wait for jobs to be made of them; try again later"
        return None

    def _most(self, scope: Message) -> int:
        return self._limits.upload_bytes + _FORM_BYTES if _is_upload(scope) else MOST_BODY

    def _too_large(self) -> str:
        return f"too large: uploads may have {self._limits.upload_bytes / 1e6:.0f} MB, other requests much less"

    async def _read_call(self, receive: Receive, path: str) -> Receive:
        """Read a call, and return what gives it to Gradio; raise `_Refused` if it may not pass (`checked_call`)."""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return receive  # who asked is gone
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            body = checked_call(body, path, self._uploads)
        except UsageError as error:
            raise _Refused(400, str(error)) from None
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
    """Whether a request comes from this server's page, or from a program, which names no page.

    Of what another site's page embeds (pictures, scripts) browsers do not name the origin, but that it is another one;
    a link there that is followed to here (navigation) harms nobody.
    """
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == headers.get("host")
    is_elsewhere = headers.get("sec-fetch-site", "") in ("cross-site", "same-site")
    return not is_elsewhere or headers.get("sec-fetch-mode") == "navigate"


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


class _Body:
    """The body of a request as it comes in: no more than `most` bytes, whatever was claimed."""

    def __init__(self, receive: Receive, most: int, words: str, is_over: bool):
        self._receive, self._left, self._words = receive, most, words
        self.is_over = is_over
        self.refused: _Refused | None = None

    async def receive(self) -> Message:
        """Return the next message; raise `_Refused` when more has come than may."""
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        self.is_over = not message.get("more_body", False)
        if self._left < 0:
            self.refused = _Refused(413, self._words)
            raise self.refused
        return message


class _Answer:
    """The answer to a request, as it goes out: with our headers, and `token` for the browser to keep."""

    def __init__(self, send: Send, body: _Body, token: str | None):
        self._send, self._body, self._token = send, body, token
        self._started = False

    async def send(self, message: Message) -> None:
        """Pass a message on, unless the body was refused: then what others say of it is left out for `refuse`."""
        if self._body.refused is not None and not self._started:
            return
        if message["type"] == "http.response.start":
            self._started = True
            headers = list(_guarded(message["headers"], self._token))
            message = dict(message, headers=headers if self._body.is_over else [*headers, _CLOSE])
        await self._send(message)

    async def refuse(self, refused: _Refused) -> None:
        """Send the status and the words of `refused`, unless something was sent before."""
        if not self._started:
            self._started = True
            await _answer(self._send, *refused.args)


def _is_upload(scope: Message) -> bool:
    return scope["method"] == "POST" and scope["path"].endswith("/upload")


def _length(headers: dict[str, str], otherwise: int) -> int:
    """Return how long the body is said to be; `otherwise` where that is not said."""
    return int(headers.get("content-length", otherwise))


async def _answer(send: Send, status: int, text: str) -> None:
    body = f"{text}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    headers.append(_CLOSE)
    if status == 429:
        headers.append((b"retry-after", f"{WINDOW:.0f}".encode()))
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="jax-interp", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": list(_guarded(headers, None))})
    await send({"type": "http.response.body", "body": body})
