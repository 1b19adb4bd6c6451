from importlib import import_module

import pytest

from convert.hub.transport.connection import MAX_REDIRECTS, content_length, open_response, read_bounded
from convert.hub.transport.faults import BadResponse, ErrorResponse, TransportError
from convert.hub.transport.watchdog import Watchdog

http = import_module(TransportError.__module__.partition(".")[0])


@pytest.fixture
def sites(monkeypatch):
    """Sites by host, TLS included: functions of the request. Yields them and the requests that came."""
    answers, came = {}, []

    def handle(request):
        came.append(request)
        return answers[request.url.host](request)

    client = http.Client(transport=http.MockTransport(handle))
    monkeypatch.setattr("convert.hub.transport.connection.get_session", lambda: client)
    return answers, came


def to(address):
    return lambda request: http.Response(302, headers={"Location": address})


def content(body, **headers):
    return lambda request: http.Response(200, headers=headers, stream=http.ByteStream(body))


def ask(url, most=100, **options):
    with (
        Watchdog(60, 1) as watch,
        open_response("GET", url, {"Authorization": "Bearer hf_x"}, watch, **options) as response,
    ):
        return read_bounded(response, watch, most)


def tokens(came):
    return {request.url.host: request.headers.get("Authorization") for request in came}


def test_the_token_goes_to_the_hub_and_to_nobody_else(sites):
    answers, came = sites
    answers |= {"hub": to("https://cdn/a"), "cdn": to("https://store/b"), "store": content(b"x")}
    assert ask("https://hub/file") == b"x"
    assert tokens(came) == {"hub": "Bearer hf_x", "cdn": None, "store": None}


def test_the_token_does_not_come_back_by_way_of_another_host(sites):
    answers, came = sites
    answers["cdn"] = to("https://hub/b")
    answers["hub"] = lambda request: (
        to("https://cdn/a")(request) if request.url.path == "/a" else content(b"x")(request)
    )
    assert ask("https://hub/a") == b"x"
    assert [request.headers.get("Authorization") for request in came] == ["Bearer hf_x", None, None]


def test_another_port_is_another_host(sites):
    answers, came = sites
    answers["hub"] = lambda request: content(b"x")(request) if request.url.port else to("https://hub:8443/")(request)
    assert ask("https://hub/a") == b"x"
    assert [request.headers.get("Authorization") for request in came] == ["Bearer hf_x", None]


def test_a_redirect_within_the_hub_keeps_the_token(sites):
    answers, came = sites
    answers["hub"] = lambda request: content(b"x")(request) if request.url.path == "/new" else to("/new")(request)
    assert ask("https://hub/old") == b"x"
    assert [request.headers.get("Authorization") for request in came] == ["Bearer hf_x"] * 2


@pytest.mark.parametrize("address", ["http://hub/b", "http://cdn/b", "//cdn/b"])
def test_there_is_no_way_out_of_tls(sites, address):
    answers, came = sites
    answers |= {"hub": to(address), "cdn": to("http://store/c"), "store": content(b"x")}
    with pytest.raises(BadResponse, match="redirects from https to http"):
        ask("https://hub/a")
    assert {request.url.scheme for request in came} == {"https"}


def test_a_hub_without_tls_may_redirect_into_it(sites):
    answers, _ = sites
    answers |= {"mirror": to("https://cdn/b"), "cdn": content(b"x")}
    assert ask("http://mirror/a") == b"x"


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://cdn/x", "data:text/plain,x", "javascript:alert(1)"])
def test_only_the_web_is_followed(sites, address):
    answers, came = sites
    answers["hub"] = to(address)
    with pytest.raises(BadResponse, match="redirects to what is no address on the web"):
        ask("https://hub/a")
    assert len(came) == 1


def test_circles_end(sites):
    answers, came = sites
    answers["hub"] = to("/again")
    with pytest.raises(BadResponse, match="redirects more than 10 times"):
        ask("https://hub/a")
    assert len(came) == MAX_REDIRECTS + 1


def test_whoever_only_asks_for_permission_does_not_leave_the_hub(sites):
    answers, came = sites
    answers["hub"] = lambda request: to("https://cdn/b" if request.url.path == "/new" else "/new")(request)
    with Watchdog(60, 1) as watch, open_response("HEAD", "https://hub/a", {}, watch, leave_origin=False) as response:
        assert response.status_code == 302
    assert [request.url.path for request in came] == ["/a", "/new"]


def test_an_error_after_a_redirect_is_one(sites):
    answers, _ = sites
    answers["hub"] = to("https://cdn/b")
    answers["cdn"] = lambda request: http.Response(403, headers={"X-Error-Code": "GatedRepo"})
    with pytest.raises(ErrorResponse) as caught:
        ask("https://hub/a")
    assert (caught.value.status, caught.value.code, caught.value.transient) == (403, "GatedRepo", False)


def test_bodies_are_bounded(sites):
    answers, _ = sites
    answers["hub"] = content(bytes(100))
    assert len(ask("https://hub/a", most=100)) == 100
    with pytest.raises(BadResponse, match="is longer than"):
        ask("https://hub/a", most=99)


@pytest.mark.parametrize(("text", "length"), [("12", 12), ("-1", None), ("1e3", None), ("9" * 30, None), ("", None)])
def test_lengths_are_numbers_or_nothing(text, length):
    assert content_length(http.Response(200, headers={"Content-Length": text})) == length
