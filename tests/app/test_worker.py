"""The worker makes jobs by the code of `generate`, keeps the networks, and leaves nothing half done."""

import dataclasses
import io
import threading
import time
import zipfile

import pytest

from jax_interp.app import worker as worker_module
from jax_interp.app.worker import Worker
from jax_interp.errors import Blocked, MediaError
from jax_interp.guardrails.verdict import Verdict
from tests.app.conftest import OWNER
from tests.app.serving import CLIP, SMALL, Caller


@pytest.fixture
def worker(office):
    made = Worker(office.store, office.app)
    yield made
    made.stop()


def over(office, id, seconds=120):
    end = time.monotonic() + seconds
    while (entry := office.store.get(id)).is_open:
        assert time.monotonic() < end, f"still {entry}"
        time.sleep(0.02)
    return entry


@pytest.mark.slow
def test_jobs_are_made_and_the_networks_are_loaded_once(demo_server):
    user = Caller(demo_server.address)
    first, second = user.submit(), user.submit(seed=3, frames=False)
    done = user.wait(first)
    assert (done["state"], done["message"], done["share"]) == ("done", "", 1.0)
    assert done["pair"] == done["pairs"] == 4
    results = done["results"]
    assert results.keys() == {"video", "record", "frames", "comparison"}
    with zipfile.ZipFile(io.BytesIO(user.get(results["frames"]).content)) as archive:
        assert len(archive.namelist()) == 74
    record = user.get(results["record"])
    assert str(demo_server.folder) not in record.text
    assert record.json()["settings"]["num_steps"] == 1
    assert user.get(f"/results/{first}/4.webp").content[8:12] == b"WEBP"
    assert user.wait(second)["results"].keys() == {"video", "record", "comparison"}
    assert user.call("plan", user.upload(CLIP), SMALL)["working_seconds"] > 0
    assert demo_server.folder.with_suffix(".log").read_text().count("loaded diffusion_transformer") == 1
    assert not (demo_server.folder / "jobs" / first / "frames").exists()


def running(office, worker, monkeypatch, do):
    """Have the worker run `do(job, reporter)` in place of `generate` for a job, and return how that ended."""
    monkeypatch.setattr(
        worker_module, "generate_keeping", lambda kept, request, reporter: do(request.jobs[0], reporter)
    )
    id = office.submit()
    worker.start()
    return over(office, id)


def test_a_block_shows_its_category_and_nothing_of_the_clip(office, worker, monkeypatch):
    def block(job, reporter):
        job.video.write_bytes(b"frames")
        (job.video.parent / "previews").mkdir()
        raise Blocked("the prompt", Verdict.block("the words that were found", category="O1"))

    entry = running(office, worker, monkeypatch, block)
    assert (entry.state, entry.message, entry.previews) == ("blocked", "category O1", 0)
    assert [path.name for path in office.desk.folder(entry.id).path.iterdir()] == ["input"]
    assert office.desk.results(entry) == {}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MediaError("clip.mp4: is damaged"), "clip.mp4: is damaged"),
        (ZeroDivisionError("division"), "unexpected ZeroDivisionError: division"),
        (MemoryError(), "out of memory"),
    ],
    ids=["ours", "unexpected", "memory"],
)
def test_an_error_is_a_message_and_the_next_job_has_its_turn(office, worker, monkeypatch, error, message):
    def fail(job, reporter):
        raise error

    entry = running(office, worker, monkeypatch, fail)
    assert entry.state == "failed"
    assert entry.message.startswith(message)
    assert "Traceback" not in entry.message
    again = office.submit()
    worker.wake()
    assert over(office, again).state == "failed"


def test_the_folder_of_the_server_is_not_in_a_message(office, worker, monkeypatch):
    def fail(job, reporter):
        raise MediaError(f"{job.inputs[0]}: is damaged")

    assert running(office, worker, monkeypatch, fail).message == "000.mp4: is damaged"


@pytest.mark.parametrize(("work", "measured"), [(10.0, {"work_seconds", "start_seconds"}), (0.0, set())])
def test_a_job_whose_input_has_all_frames_has_no_speed(office, work, measured):
    entry = dataclasses.replace(office.store.get(office.submit()), work=work)
    watch = worker_module._Watch(entry, office.desk.folder(entry.id), office.store, threading.Event())
    for call in range(2):
        watch._advance(0, 1, call, 2)
    assert watch.speeds().keys() == measured


def test_a_running_job_ends_where_it_is_cancelled(office, worker, monkeypatch):
    def go_on(job, reporter):
        with reporter.making(job) as advance:
            for call in range(10_000):
                advance(0, 1, call, 10_000)
                office.desk.cancel(OWNER, job.video.parent.name)
                time.sleep(0.01)

    entry = running(office, worker, monkeypatch, go_on)
    assert entry.state == "cancelled"
    assert 0 < entry.share < 0.1


def test_a_server_that_ends_leaves_the_job_for_the_next(office, worker, monkeypatch):
    def go_on(job, reporter):
        with reporter.making(job) as advance:
            for call in range(10_000):
                advance(0, 1, call, 10_000)
                time.sleep(0.01)

    monkeypatch.setattr(
        worker_module, "generate_keeping", lambda kept, request, reporter: go_on(request.jobs[0], reporter)
    )
    id = office.submit()
    worker.start()
    while office.store.get(id).state != "running":
        time.sleep(0.01)
    worker.stop()
    assert office.store.get(id).state == "running"
    assert [entry.id for entry in office.store.requeue_interrupted()] == [id]


def test_what_cannot_be_read_any_more_fails_alone(office, worker):
    id, other = office.submit(), office.submit()
    office.store.note(id, asked='{"unknown": 1}')
    office.desk.cancel(OWNER, other)
    worker.start()
    entry = over(office, id)
    assert (entry.state, "unknown is unknown" in entry.message) == ("failed", True)
