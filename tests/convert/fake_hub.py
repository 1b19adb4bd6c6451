"""A stand-in for the hub's API on this machine: what huggingface_hub asks for, with the failures that users meet."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

MEMBER, STRANGER = "hf_member", "hf_stranger"
"""Tokens: of an account that has accepted the terms, and of one that has not."""


@dataclass
class FakeRepository:
    files: dict[str, bytes]
    commit: str = "a" * 40
    gated: bool = False
    big: frozenset[str] = frozenset()
    """Files in large-file storage: redirected to another host, with a SHA-256 in the listing."""

    def listing(self) -> list[dict]:
        rows = []
        for name, data in self.files.items():
            git = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
            row: dict = {"rfilename": name, "size": len(data), "blobId": git}
            if name in self.big:
                row["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            rows.append(row)
        return rows


@dataclass
class FakeHub:
    repositories: dict[str, FakeRepository]
    status: int = 0
    """Answer everything with this status."""
    breaks: list[int] = field(default_factory=list)
    """Break off the next transfers after so many bytes each."""
    broken_status: list[int] = field(default_factory=list)
    """Answer the next transfers with these."""
    ignores_range: bool = False
    act: "Callable[[Handler, str], bool] | None" = None
    """Sees every request and its path before anything else; true if it has answered."""
    most_requests: int = 10**9
    """The next one is refused for good: a program that never gives up fails its test at once."""
    closing: threading.Event = field(default_factory=threading.Event)
    """Set at the end, for answers that would go on for ever."""
    leaks: list[str] = field(default_factory=list)
    """Tokens that came to another host than the hub's."""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and `Range` of every request."""
    endpoint: str = ""

    def transfers(self) -> list[tuple[str, str | None]]:
        return [
            (path.rsplit("/", 1)[-1], span)
            for method, path, span in self.requests
            if (method, path[:5]) == ("GET", "/cdn/")
        ]


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def log_message(self, format: str, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers["Range"]))
        if self.headers["Host"].startswith("localhost") and self.headers["Authorization"]:
            self.hub.leaks.append(self.headers["Authorization"])
        if len(self.hub.requests) > self.hub.most_requests:
            return self._send(410)
        if self.hub.act and self.hub.act(self, path):
            self.close_connection = True
            return None
        if self.hub.status:
            return self._send(self.hub.status)
        if path.startswith("/cdn/"):
            return self._send_bytes(path)
        if path.startswith("/api/models/"):
            return self._describe(*path.removeprefix("/api/models/").split("/revision/"))
        repo_id, _, rest = path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        return self._resolve(repo_id, revision, name)

    def raw(self, *pieces: bytes, forever: Iterable[bytes] = (), pause: float = 0.0) -> None:
        """Send bytes as they are, a pause before each of `forever`, until the client has had enough."""
        with suppress(ConnectionError):
            for piece in pieces:
                self.wfile.write(piece)
            for piece in forever:
                if self.hub.closing.wait(pause):
                    return
                self.wfile.write(piece)

    def _describe(self, repo_id: str, revision: str) -> None:
        repository = self.hub.repositories.get(repo_id)
        if repository is None:
            return self._send(404, error="RepoNotFound")
        if revision not in ("main", repository.commit):
            return self._send(404, error="RevisionNotFound")
        body = {"id": repo_id, "sha": repository.commit, "siblings": repository.listing()}
        return self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repo_id: str, revision: str, name: str) -> None:
        repository = self.hub.repositories.get(repo_id)
        if repository is None:
            return self._send(404, error="RepoNotFound")
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        if token not in ("", MEMBER, STRANGER):
            return self._send(401, message="Invalid credentials in Authorization header")
        if repository.gated and token != MEMBER:
            return self._send(403 if token else 401, error="GatedRepo")
        if name not in repository.files:
            return self._send(404, error="EntryNotFound")
        # Another host name, so that a client which sends its token along is caught.
        address: Any = self.server.server_address
        port = address[1]
        return self._send(
            302, headers={"Location": f"http://localhost:{port}/cdn/{repo_id}/{name}", "X-Repo-Commit": revision}
        )

    def _send_bytes(self, path: str) -> None:
        if self.headers["Authorization"]:
            return self._send(400, message="the token went to another host")
        if self.hub.broken_status:
            return self._send(self.hub.broken_status.pop(0))
        owner, repo, name = path.removeprefix("/cdn/").split("/", 2)
        data = self.hub.repositories[f"{owner}/{repo}"].files[name]
        span = None if self.hub.ignores_range else self.headers["Range"]
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if span else {}
        stop = self.hub.breaks.pop(0) if self.hub.breaks else None
        return self._send(206 if span else 200, data[start:], headers, stop)

    def _send(
        self, status: int, body: bytes = b"", headers: dict | None = None, stop: int | None = None, **errors: str
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        for kind, value in errors.items():
            self.send_header({"error": "X-Error-Code", "message": "X-Error-Message"}[kind], value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:stop])
        self.close_connection = True


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    """Answer on a free port of this machine until the block ends."""
    handler = type("Handler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
