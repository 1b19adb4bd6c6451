"""Page, API and results as a server, with a queue that nobody works on: what comes back, and what does not."""

import json
import re
import threading

import httpx
import pytest

gradio = pytest.importorskip("gradio", reason='no Gradio here: pip install -e ".[app]"')
import uvicorn

from jax_interp.app.settings import Access
from jax_interp.app.web.server import application, listening_at
from jax_interp.errors import UsageError
from tests import golden
from tests.app.serving import Caller

ADDRESS = re.compile(r"https?://[\w.-]+")


@pytest.fixture
def served(office):
    """A caller of a server over the office's queue."""
    config = uvicorn.Config(
        application(office.app, office.desk), port=0, log_level="error", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    [socket] = server.servers[0].sockets
    yield Caller(f"http://127.0.0.1:{socket.getsockname()[1]}")
    server.should_exit = True
    thread.join(10)


def test_what_one_user_asked_for_is_that_users_alone(served, office):
    other = Caller(served.address)
    files = served.upload(golden.CLIP)
    plan = served.call("plan", files, {"steps": 1})
    assert plan["pairs"] == plan["given_frames"] - 1
    job = served.call("submit", files, {"steps": 1, "prompt": "<b>rain</b>"})["job"]
    assert served.call("progress", job)["state"] == "queued"
    assert [each["job"] for each in served.call("jobs")] == [job]
    assert other.call("jobs") == []
    with pytest.raises(RuntimeError, match="there is no such job"):
        other.call("progress", job)
    with pytest.raises(RuntimeError, match="there is no such job"):
        other.call("cancel", job)

    folder = office.desk.folder(job)
    folder.video.write_bytes(b"0123456789")
    folder.record.write_text(json.dumps({"output": str(folder.video)}))
    folder.comparison.write_text("<p>both</p>")
    assert served.get(f"/results/{job}/result.mp4").status_code == 404  # it is not over
    office.store.end(job, "done")
    results = served.call("progress", job)["results"]
    assert served.get(results["video"]).content == b"0123456789"
    part = httpx.get(f"{served.address}{results['video']}", headers=served.headers | {"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert served.get(results["record"]).json() == {"output": "result.mp4"}
    assert "sandbox" in served.get(results["comparison"]).headers["content-security-policy"]
    assert served.get(f"/results/{job}/source.mp4").content == golden.CLIP.read_bytes()
    for name in ("result.mp4", "result.json", "compare.html", "source.mp4", "1.webp"):
        assert other.get(f"/results/{job}/{name}").status_code == 404
        assert httpx.get(f"{served.address}/results/{job}/{name}").status_code == 404
    for name in ("jobs.sqlite3", "input", "..%2fjobs.sqlite3", "%2e%2e/%2e%2e/jobs.sqlite3", "result.txt", "0.webp"):
        assert served.get(f"/results/{job}/{name}").status_code == 404
    assert served.call("cancel", job)["state"] == "done"


def test_errors_are_messages(served):
    files = served.upload(golden.CLIP)
    for name, values, message in (
        ("submit", (files, {"steps": "x"}), "steps is 'x', expected a whole number"),
        ("submit", (files, "x"), "expected an object"),
        ("submit", ([], {}), "nothing is uploaded"),
        ("submit", (7, {}), "expected a list of uploaded files"),
        ("submit", (served.upload(("a.mp4", b"0" * 99)), {}), "a.mp4"),
        ("submit", ([{"path": "/etc/passwd"}], {}), "400: a call names a file"),
        ("progress", ("../../etc/passwd",), "there is no such job"),
        ("progress", ({"a": 1},), "there is no such job"),
    ):
        with pytest.raises(RuntimeError) as caught:
            served.call(name, *values)
        assert message in str(caught.value)
        assert "Traceback" not in str(caught.value)
        assert "uploads/" not in str(caught.value)
    nobody = Caller(served.address, owner="")
    with pytest.raises(RuntimeError, match="X-Owner"):
        nobody.call("jobs")


def test_the_page_and_its_settings_name_no_other_server(served):
    page = httpx.get(served.address)
    assert page.status_code == 200
    assert "jax-interp" in page.text
    # What a browser would load: the meta data for other sites' previews are only text.
    loaded = re.findall(r"""(?:src|href)=["'](https?://[^"']+)|@import url\(["']?(https?://[^)"']+)""", page.text)
    assert [address for found in loaded for address in found if address] == []
    style = httpx.get(f"{served.address}/theme.css")
    assert style.status_code == 200
    assert set(ADDRESS.findall(style.text)) <= {"http://www.w3.org"}  # the name of SVG, which nobody fetches


def test_files_that_gradio_would_serve_are_not_there(served):
    [file] = served.upload(golden.CLIP)
    for path in (file["path"], "/etc/passwd", "app-data/jobs.sqlite3"):
        assert served.get(f"/gradio_api/file={path}").status_code == 404


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_named(host):
    with listening_at(Access(host=host, port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}: nothing can listen at {host}"):
            listening_at(Access(host=host, port=port))


def test_an_address_of_another_machine_is_named():
    with pytest.raises(UsageError, match=r"nothing can listen at 192\.0\.2\.1"):
        listening_at(Access(host="192.0.2.1", port=0, user="ann", password="correct horse"))
