"""What passes the gate, and what does not: asked of the gate alone, with an application that notes what reaches it."""

import asyncio
import base64
import json
from dataclasses import dataclass, field

import pytest

from jax_interp.app.settings import Access, Limits
from jax_interp.app.web.gate import MOST_BODY, OWNER_COOKIE, OWNER_HEADER, Gate

TOKEN = "t" * 43
LOCAL = {"host": "127.0.0.1:7860"}


@dataclass
class Inner:
    """An application that reads the request and says yes."""

    scopes: list = field(default_factory=list)
    bodies: list = field(default_factory=list)

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.scopes.append(scope)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"yes"})


@dataclass
class Answer:
    status: int
    headers: dict
    text: str


@pytest.fixture
def inner():
    return Inner()


@pytest.fixture
def ask(inner, tmp_path):
    """A function that sends a request through a gate, and returns the answer."""

    def send_through(method="GET", path="/", body=b"", access=None, chunk=None, **headers):
        gate = Gate(inner, access or Access(), Limits(upload_bytes=1000), tmp_path / "uploads")
        sent = []
        size = chunk or max(1, len(body))
        parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
        messages = [
            {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
            for number, part in enumerate(parts)
        ]

        async def receive():
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        named = {name.replace("_", "-"): value for name, value in {**LOCAL, **headers}.items()}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        }
        asyncio.run(gate(scope, receive, send))
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:]).decode())

    (tmp_path / "uploads/0").mkdir(parents=True)
    return send_through


def owner(inner):
    return dict(inner.scopes[-1]["headers"]).get(OWNER_HEADER.encode(), b"").decode()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/file=app-data/jobs.sqlite3"),
        ("GET", "/gradio_api/file/app-data/jobs.sqlite3"),
        ("HEAD", "/gradio_api/file=/etc/passwd"),
        ("GET", "/file=/etc/passwd"),
        ("GET", "/gradio_api/proxy=http://example.com"),
        ("GET", "/gradio_api/stream/a/b/c/playlist.m3u8"),
        ("GET", "/monitoring"),
        ("GET", "/gradio_api/deep_link"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/assets/../../secret"),
        ("GET", "/static//../x"),
        ("GET", "/results/../jobs.sqlite3"),
        ("GET", "/login"),
        ("POST", "/"),
        ("POST", "/login"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/gradio_api/run/predict"),
        ("PUT", "/results/a/b"),
        ("DELETE", "/"),
        ("OPTIONS", "/"),
    ],
)
def test_only_known_addresses_are_there(ask, inner, method, path):
    assert ask(method, path).status == 404
    assert inner.scopes == []


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "169.254.0.1", "["])
def test_a_foreign_name_that_points_here_is_refused(ask, inner, host):
    assert ask(host=host).status == 403
    assert inner.scopes == []


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1", "[::1]:7860"])
def test_this_machines_own_names_are_not(ask, host):
    assert ask(host=host).status == 200


def test_behind_a_proxy_any_name_may_be_the_servers(ask):
    access = Access(host="0.0.0.0", is_behind_proxy=True)
    assert ask(access=access, host="clips.example").status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_another_sites_page_may_ask_nothing(ask, inner, origin):
    assert ask("POST", "/gradio_api/queue/join", b"{}", origin=origin).status == 403
    assert inner.scopes == []
    assert ask("POST", "/gradio_api/queue/join", b"{}", origin="http://127.0.0.1:7860").status == 200


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_the_password_is_asked_for_everywhere(ask, inner):
    access = Access(host="0.0.0.0", user="ann", password="correct horse")
    for path in ("/", "/config", "/results/a/result.mp4", "/assets/a.js", "/gradio_api/info"):
        refused = ask(path=path, access=access)
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("Basic")
    for wrong in ("", "Bearer x", "Basic", "Basic ?", basic("ann:"), basic("ann:correct"), basic("eve:correct horse")):
        assert ask(access=access, authorization=wrong).status == 401
    assert inner.scopes == []
    assert ask(access=access, authorization=basic("ann:correct horse")).status == 200


def test_a_claim_of_gigabytes_is_refused_before_they_come(ask, inner):
    answer = ask("POST", "/gradio_api/upload", b"x", content_length=str(10 * 2**30))
    assert answer.status == 413
    assert "0 MB" in answer.text
    assert inner.scopes == []


@pytest.mark.parametrize("length", ["-1", "1e9", "ten", "9" * 30, "²"])
def test_a_length_that_is_none(ask, length):
    assert ask("POST", "/gradio_api/upload", b"x", content_length=length).status == 400


def test_more_bytes_than_were_claimed_are_counted(ask, inner):
    large = b"x" * (2**20 + 2000)
    assert ask("POST", "/gradio_api/upload", large, chunk=2**16, content_length="5").status == 413
    assert ask("POST", "/gradio_api/queue/join", b"[" * (MOST_BODY + 1), chunk=2**16).status == 413
    assert inner.scopes == []


def test_where_many_uploads_wait_there_is_no_room_for_more(ask, tmp_path):
    (tmp_path / "uploads/0/large.mp4").write_bytes(b"x" * 10_001)
    assert ask("POST", "/gradio_api/upload", b"x").status == 503


@pytest.mark.parametrize(
    "called",
    [
        {"data": [{"path": "/etc/passwd"}]},
        {"data": [[[{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]]]},
        {"data": [{"a": {"b": [{"path": "http://example.com/a.mp4"}]}}]},
        {"data": [{"path": None}]},
        {"data": [{"path": ["/etc/passwd"]}]},
        {"path": "{uploads}/0/../../secret.mp4"},
    ],
)
def test_a_call_names_no_file_that_was_not_uploaded(ask, inner, tmp_path, called):
    (tmp_path / "secret.mp4").write_bytes(b"1")
    body = json.dumps(called).replace("{uploads}", str(tmp_path / "uploads")).encode()
    answer = ask("POST", "/gradio_api/call/submit", body)
    assert (answer.status, "was not uploaded here" in answer.text) == (400, True)
    assert inner.scopes == []


def test_one_that_was_passes_as_it_is(ask, inner, tmp_path):
    clip = tmp_path / "uploads/0/clip.mp4"
    clip.write_bytes(b"1")
    called = {"data": [[{"path": str(clip)}], {"prompt": "é"}]}
    assert ask("POST", "/gradio_api/call/submit", json.dumps(called).encode(), chunk=7).status == 200
    assert json.loads(inner.bodies[0]) == called


def test_of_a_key_that_stands_there_twice_only_what_was_looked_at_passes(ask, inner, tmp_path):
    clip = tmp_path / "uploads/0/clip.mp4"
    clip.write_bytes(b"1")
    ask("POST", "/gradio_api/queue/join", b'{"path": "/etc/passwd", "path": "%s"}' % str(clip).encode())
    assert b"passwd" not in inner.bodies[0]


@pytest.mark.parametrize("called", [{}, [], {"data": []}, {"data": ["a", "b"]}, {"data": {"0": "a"}}, {"data": None}])
def test_a_call_with_another_number_of_values_is_told_how_many(ask, inner, called):
    answer = ask("POST", "/gradio_api/call/progress", json.dumps(called).encode())
    assert (answer.status, "progress takes 1 value(s)" in answer.text) == (400, True)
    assert inner.scopes == []


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000], ids=["open", "bytes", "deep"])
def test_what_is_no_json_is_refused(ask, inner, body):
    assert ask("POST", "/gradio_api/queue/join", body).status == 400
    assert inner.scopes == []


def test_a_browser_gets_a_token_that_scripts_cannot_read(ask, inner):
    cookie = ask().headers["set-cookie"]
    token = cookie.split(";")[0].removeprefix(f"{OWNER_COOKIE}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert owner(inner) == token
    assert len(token) >= 43
    again = ask(cookie=f"other=1; {OWNER_COOKIE}={token}")
    assert "set-cookie" not in again.headers
    assert owner(inner) == token
    assert ask().headers["set-cookie"] != cookie


def test_a_program_says_who_it_is(ask, inner):
    ask("GET", "/gradio_api/info", x_owner=TOKEN)
    assert owner(inner) == TOKEN
    ask("GET", "/gradio_api/info")
    assert owner(inner) == ""


@pytest.mark.parametrize("token", ["", "short", "x" * 129, "a" * 31 + "\n", "é" * 40])
def test_a_token_that_could_be_guessed_is_none(ask, inner, token):
    assert "set-cookie" not in ask("GET", "/gradio_api/info", x_owner=token, cookie=f"{OWNER_COOKIE}={token}").headers
    assert owner(inner) == ""


def test_answers_keep_the_browser_on_this_server(ask):
    headers = ask().headers
    assert "connect-src 'self'" in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


def test_sockets_are_closed(inner, tmp_path):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    asyncio.run(Gate(inner, Access(), Limits(), tmp_path)({"type": "websocket"}, receive, send))
    assert (sent, inner.scopes) == ([], [])
