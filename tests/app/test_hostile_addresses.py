"""Addresses that lead out of a user's results, other people's jobs, and other sites' pages: nothing comes back."""

import secrets
from dataclasses import dataclass

import pytest

from tests.app.copying import Hostile, pair

SECRETS = (b"root:x:0", b"SQLite format 3", b"PNG\r\n", b"IHDR")
"""What begins or fills the files that the addresses below mean."""


@dataclass
class Ann(Hostile):
    """A user with one job."""

    job: str = ""


@pytest.fixture(scope="module")
def ann(copier):
    """A user with a job that is done."""
    user = Ann(copier.address)
    user.job = user.call("submit", user.upload(*pair(1)), {"prompt": "ann's secret"})["job"]
    assert user.wait(user.job)["state"] == "done"
    return user


def test_results_are_the_owners(ann, copier):
    for name in ("result.mp4", "result.json", "compare.html", "source.png"):
        assert ann.ask("GET", f"/results/{ann.job}/{name}")[0] == 200
    bob = Hostile(copier.address)
    for name in ("result.mp4", "result.json", "compare.html", "source.png", "1.webp"):
        for method in ("GET", "HEAD"):
            assert bob.ask(method, f"/results/{ann.job}/{name}")[0] == 404
            assert bob.ask(method, f"/results/{ann.job}/{name}", X_Owner="")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/file={file}",
        "/gradio_api/file={file}",
        "/gradio_api/file/{file}",
        "/gradio_api/file=..{file}",
        "/gradio_api/file=%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/gradio_api/file%3d{file}",
        "//gradio_api//file={file}",
        "/gradio_api/./file={file}",
        "/gradio_api/upload/../file={file}",
        "/gradio_api/proxy=file://{file}",
        "/gradio_api/stream/{file}",
        "/gradio_api/call/../file={file}",
        "/assets/{file}",
        "/static/{file}",
        "/svelte/{file}",
        "/static/../../../../../../../../..{file}",
        "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e{file}",
        "/static/..%5c..%5c{file}",
        "/custom_component/x/y/{file}",
        "/results/{file}",
        "/results/{job}/{file}",
        "/results/{job}/..{file}",
        "/results/{job}/../../jobs.sqlite3",
        "/results/{job}/%2e%2e/%2e%2e/jobs.sqlite3",
        "/results/{job}/..%2f..%2fjobs.sqlite3",
        "/results/{job}/%252e%252e%252fjobs.sqlite3",
        "/results/{job}/%c0%ae%c0%ae%c0%afjobs.sqlite3",
        "/results/{job}/input",
        "/results/{job}/input/000.png",
        "/results/{job}/input%2f000.png",
        "/results/{job}/result.mp4%00.webp",
        "/results/{job}/result.mp4/",
        "/results/{job}/",
        "/results/..",
        "/results/%2e%2e/jobs.sqlite3",
        "/config?deep_link=../jobs",
        "http://127.0.0.1/gradio_api/file={file}",
        "file://{file}",
        "{file}",
    ],
)
def test_no_address_leads_to_another_file(ann, copier, path):
    folder = copier.folder
    [upload] = (folder / "uploads").rglob("1-first.png")
    for file in ("/etc/passwd", folder / "jobs.sqlite3", upload, folder / "jobs" / ann.job / "input/000.png"):
        status, body = ann.ask("GET", path.format(file=file, job=ann.job))
        assert status in (400, 403, 404) or path.startswith("/config"), body
        assert not any(secret in body for secret in SECRETS)


def test_a_call_names_only_uploads(ann, copier):
    data = copier.folder.resolve()
    link, to_folder = data / "uploads/link.png", data / "uploads/linked"
    link.symlink_to(data / "jobs.sqlite3")
    to_folder.symlink_to(data)
    try:
        for path in (
            "/etc/passwd",
            "../../../../../../../etc/passwd",
            "file:///etc/passwd",
            "http://127.0.0.1/x.png",
            "/proc/self/environ",
            "/dev/stdin",
            "",
            "\0",
            "a" * 10_000,
            "\ud800.png",
            str(data),
            str(data / "uploads"),
            str(data / "jobs.sqlite3"),
            str(data / "server.lock"),
            str(data / "uploads/../jobs.sqlite3"),
            str(data / f"jobs/{ann.job}/input/000.png"),
            str(data / f"uploads/../jobs/{ann.job}/result.mp4"),
            str(link),
            str(to_folder / "jobs.sqlite3"),
            str(to_folder / f"jobs/{ann.job}/result.mp4"),
            None,
            7,
            [str(link)],
        ):
            for file in ({"path": path}, {"path": path, "url": f"{copier.address}/x.png", "orig_name": "x.png"}):
                with pytest.raises(RuntimeError, match=r"^400: a call names a file that was not uploaded here"):
                    ann.call("submit", [file], {})
        for files in ([str(data / "jobs.sqlite3")], [{"url": "http://127.0.0.1/x.png"}], [{"file": "/etc/passwd"}]):
            with pytest.raises(RuntimeError, match="expected a list of uploaded files"):
                ann.call("submit", files, {})
    finally:
        link.unlink()
        to_folder.unlink()
    assert len(ann.call("jobs")) == 1


@pytest.mark.parametrize("owner", ["", "short", "x" * 129, "a" * 31 + "'", "../" * 12, "%" * 40])
def test_who_is_nobody_has_no_jobs(ann, copier, owner):
    nobody = Hostile(copier.address)
    nobody.owner = owner
    for name, values in (("jobs", ()), ("progress", (ann.job,)), ("cancel", (ann.job,)), ("submit", ([], {}))):
        with pytest.raises(RuntimeError, match="who asks is not said"):
            nobody.call(name, *values)


def test_ids_of_others_and_of_nobody_say_the_same(ann, copier):
    bob = Hostile(copier.address)
    ids = [ann.job, "0" * 32, ann.job.upper(), f"{ann.job}\n", f" {ann.job}", ann.job[:-1], "", "%", "_" * 32, "*"]
    ids += ["' OR 1=1 --", "../" + ann.job, "\ud800", "\0", "x" * 100_000, None, 7, 1e999, [ann.job], {"id": ann.job}]
    answers = set()
    for id in ids:
        for name in ("progress", "cancel"):
            with pytest.raises(RuntimeError) as refused:
                bob.call(name, id)
            answers.add(str(refused.value))
    assert answers == {"there is no such job: it is another's, was removed, or never was"}
    assert ann.call("progress", ann.job)["state"] == "done"


def test_the_pages_own_functions_show_nobody_anothers_job(ann, copier):
    bob = Hostile(copier.address)
    functions = bob.get("/config").json()["dependencies"]
    assert len(functions) > 8
    for number, function in enumerate(functions):
        for value in (ann.job, None, [[]], {"path": None}):
            said = bob.use_page(number, *[value] * len(function["inputs"]))
            assert "1-first" not in said
            assert "secret" not in said
            assert "Traceback" not in said
            assert f"/results/{ann.job}" not in said
    assert "2 pictures" in ann.use_page(next(n for n, f in enumerate(functions) if f["targets"][0][1] == "load"))


def test_another_sites_page_can_ask_for_nothing(ann, copier):
    own = copier.address
    for origin in ("http://evil.example", "null", f"{own}.evil.example", "http://127.0.0.1:1", "", "file://"):
        for method, path in (("POST", "/gradio_api/call/jobs"), ("GET", "/config"), ("OPTIONS", "/gradio_api/upload")):
            assert ann.ask(method, path, Origin=origin)[0] == 403
    for site in ("cross-site", "same-site"):
        embedded = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "no-cors"}
        for path in ("/", "/config", f"/results/{ann.job}/result.mp4", "/gradio_api/queue/data?session_hash=x"):
            assert ann.ask("GET", path, **embedded)[0] == 403
        assert ann.ask("GET", "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")[0] == 200
    assert ann.ask("GET", "/config", Origin=own)[0] == 200
    assert ann.ask("GET", "/config", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors")[0] == 200


def test_a_foreign_name_for_this_machine_is_refused(ann, copier):
    port = copier.address.rpartition(":")[2]
    for host in (f"evil.example:{port}", f"localhost.evil.example:{port}", f"0.0.0.0:{port}", "", "[::]", "127.1.evil"):
        for path in ("/", "/config", "/gradio_api/info", f"/results/{ann.job}/result.mp4", "/nothing"):
            status, body = ann.ask("GET", path, host=host)
            assert (status, body) == (403, b"this server is for 127.0.0.1 alone\n")
    assert ann.ask("GET", "/", host=f"localhost:{port}")[0] == 200


def test_a_page_cannot_be_framed_and_its_token_cannot_be_read(copier):
    import httpx

    answer = httpx.get(copier.address)
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in answer.headers["set-cookie"].split(";")}
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_no_socket_is_opened(ann):
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    status, _ = ann.ask("GET", "/gradio_api/queue/join", Sec_WebSocket_Key="a" * 22 + "==", **upgrade)
    assert status in (403, 404, 500)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_other_methods_do_nothing(ann, copier, method):
    for path in ("/", "/config", "/gradio_api/upload", f"/results/{ann.job}/result.mp4"):
        assert ann.ask(method, path)[0] == 404
    assert ann.call("progress", ann.job)["state"] == "done"


def test_functions_that_are_not_there(ann):
    for name in ("load", "look", "start", "predict", "nothing", "plan/", secrets.token_hex(4)):
        assert ann.send(f"call/{name}", {"data": []}).status_code == 404
