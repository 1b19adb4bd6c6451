"""Who has no password sees nothing, at no address; guessing one is slow; and no server is open by mistake."""

import asyncio
import base64
import hmac
import json

import pytest

from jax_interp.app.settings import Access, Limits
from jax_interp.app.web import sign_in as sign_in_module
from jax_interp.app.web.gate import Gate
from jax_interp.app.web.sign_in import MOST_FAILURES, WINDOW, SignIn
from tests.app.copying import ROUTES
from tests.commands import jax_interp

ACCESS = Access(host="0.0.0.0", user="ann", password="correct horse")
RIGHT, TOKEN = "ann:correct horse", "t" * 43


def basic(text):
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.fixture
def ask(tmp_path):
    """A function that asks a gate for an address; it returns the status, the headers and the text."""

    async def nothing_inside(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inside"})

    (tmp_path / "uploads").mkdir()
    gate = Gate(nothing_inside, ACCESS, Limits(), tmp_path / "uploads")

    def send_through(method, path, client="192.0.2.1", **headers):
        sent = []

        async def receive():
            return {"type": "http.request", "body": b""}

        async def send(message):
            sent.append(message)

        named = [(b"host", b"clips.example"), *((k.encode(), v.encode()) for k, v in headers.items())]
        scope = {"type": "http", "method": method, "path": path, "headers": named, "client": (client, 1)}
        asyncio.run(gate(scope, receive, send))
        return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"].decode()

    return send_through


def test_every_address_of_the_server_asks_for_the_password(copier, ask):
    routes = json.loads((copier.folder / ROUTES).read_text())
    paths = {path for path, _ in routes}
    for wanted in (
        "/config",
        "/gradio_api/queue/join",
        "/gradio_api/queue/data",
        "/gradio_api/upload",
        "/gradio_api/info",
    ):
        assert wanted in paths
    assert any("file=" in path for path in paths)
    assert any("heartbeat" in path for path in paths)
    assert any("/results/" in path for path in paths)
    assert len(paths) > 30
    wrong = [{}, {"authorization": ""}, {"x-owner": TOKEN}, {"cookie": f"jax_interp_owner={TOKEN}"}]
    for path, methods in [*routes, ["/", ["GET"]], ["/nothing", ["GET", "POST"]]]:
        for method in methods:
            for headers in wrong:
                status, found, text = ask(method, path, **headers)
                assert (status, text) == (401, "sign in with the name and the password of this server\n")
                assert found[b"www-authenticate"].startswith(b"Basic ")
                assert b"set-cookie" not in found


@pytest.mark.parametrize(
    "authorization",
    [
        basic("ann:wrong horse"),
        basic("ann:"),
        basic("ann"),
        basic(""),
        basic(":correct horse"),
        basic("bob:correct horse"),
        basic("ann:correct horse "),
        basic("Ann:correct horse"),
        basic("ann:correct horse\0"),
        basic(RIGHT).removesuffix("="),
        f"{basic(RIGHT)} {basic(RIGHT)}",
        RIGHT,
        f"Bearer {basic(RIGHT).split()[1]}",
        "Basic",
        "Basic é",
        "Basic " + "A" * 100_000,
    ],
)
def test_a_wrong_password_lets_nobody_in(ask, authorization):
    status, _, text = ask("GET", "/", authorization=authorization)
    assert (status, text) == (401, "the name or the password is wrong\n")
    assert ask("GET", "/", authorization=basic(RIGHT))[0] == 200


def test_guessing_is_slowed_down(ask):
    for guess in range(MOST_FAILURES):
        assert ask("GET", "/", authorization=basic(f"ann:{guess}"))[0] == 401
    status, headers, text = ask("GET", "/", authorization=basic(RIGHT))
    assert (status, headers[b"retry-after"]) == (429, b"60")
    assert text == "too many wrong passwords; try again in 60 seconds\n"
    assert ask("GET", "/", client="192.0.2.2", authorization=basic(RIGHT))[0] == 200
    assert ask("GET", "/")[0] == 401  # who gives none does not guess


class Door(SignIn):
    """Says with which status a request is answered."""

    def __init__(self, now):
        super().__init__(ACCESS, lambda: now[0])

    def ask(self, text, address, token=""):
        refused = self.refusal(basic(text), address, token)
        return 200 if refused is None else refused[0]


def test_who_was_let_in_is_not_locked_out_by_a_neighbour():
    door = Door([0.0])
    assert door.ask(RIGHT, "192.0.2.1", TOKEN) == 200
    for guess in range(MOST_FAILURES):
        assert door.ask(f"ann:{guess}", "192.0.2.1", f"{guess}" * 43) == 401
    assert door.ask(RIGHT, "192.0.2.1", "u" * 43) == 429
    assert door.ask(RIGHT, "192.0.2.1", TOKEN) == 200
    for guess in range(MOST_FAILURES):
        assert door.ask(f"ann:{guess}", "192.0.2.1", TOKEN) == 401
    assert door.ask(RIGHT, "192.0.2.1", TOKEN) == 429


def test_after_a_minute_it_starts_anew():
    now = [0.0]
    door = Door(now)
    for _ in range(MOST_FAILURES):
        now[0] += 1
        assert door.ask("ann:x", "192.0.2.1") == 401
    assert door.ask(RIGHT, "192.0.2.1") == 429
    now[0] = 1 + WINDOW - 0.1
    assert door.ask(RIGHT, "192.0.2.1") == 429
    now[0] = 1 + WINDOW
    assert door.ask(RIGHT, "192.0.2.1") == 200


def test_one_customers_addresses_count_together():
    door = Door([0.0])
    for guess in range(MOST_FAILURES):
        assert door.ask("ann:x", f"2001:db8::{guess}") == 401
    assert door.ask(RIGHT, "2001:db8::ffff") == 429
    assert door.ask(RIGHT, "2001:db8:0:1::") == 200


def test_no_more_is_remembered_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(sign_in_module, "_REMEMBERED", 5)
    door = Door([0.0])
    for number in range(50):
        door.ask("ann:x", f"192.0.2.{number}")
        door.ask(RIGHT, f"198.51.100.{number}", f"{number:043d}")
    assert (len(door._failures), len(door._known)) == (5, 5)


def test_a_comparison_takes_as_long_whatever_is_right(monkeypatch):
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append((one, other)) or one == other)
    door = Door([0.0])
    for given in (RIGHT, "ann:x", "", "a"):
        door.ask(given, "192.0.2.1")
    assert [one for one, _ in compared] == [RIGHT.encode(), b"ann:x", b"", b"a"]
    assert {other for _, other in compared} == {RIGHT.encode()}


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.5", "127.0.0.1.example", "example.org", "localhost."])
def test_a_server_for_others_needs_a_password(tmp_path, address):
    outcome = jax_interp("app", "--demo", "--listen", address, "--data-dir", tmp_path / "data")
    assert outcome.code != 0
    assert "--auth USER:FILE, or --share-nothing" in outcome.output
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("content", "auth", "message"),
    [
        ("short\n", "ann:{file}", "8 characters or more"),
        ("", "ann:{file}", "8 characters or more"),
        ("       \nlong enough\n", "ann:{file}", "8 characters or more"),
        ("long enough\n", "{file}", "expected USER:FILE"),
        ("long enough\n", ":{file}", "expected USER:FILE"),
        ("long enough\n", "ann:{file}x", "cannot be read"),
        ("long enough\n", "ann:{folder}", "cannot be read"),
    ],
)
def test_a_password_that_is_none_starts_no_server(tmp_path, content, auth, message):
    file = tmp_path / "password"
    file.write_text(content)
    auth = auth.format(file=file, folder=tmp_path)
    outcome = jax_interp("app", "--demo", "--listen", "0.0.0.0", "--auth", auth, "--data-dir", tmp_path / "data")
    assert (outcome.code != 0, message in outcome.output) == (True, True)
    assert "long enough" not in outcome.output
    assert not (tmp_path / "data").exists()
