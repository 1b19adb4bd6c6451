"""A server that is killed goes on with its queue when it starts again: nothing is lost, and nothing is made twice."""

import io
import re
import time
import zipfile

import numpy as np
import pytest

pytest.importorskip("gradio", reason='no Gradio here: pip install -e ".[app]"')

from jax_interp.app.store import JobStore
from tests import golden
from tests.app.copying import MADE, SECONDS_A_STEP, SIZES, Hostile, digest, pair
from tests.app.serving import Caller, running, start

LONG = {"steps": 200}
"""Settings of a job that takes the copying server two seconds."""


@pytest.fixture
def begin(tmp_path):
    """A function that starts a copying server, again with the same data."""
    servers = []

    def started():
        servers.append(start(tmp_path / "data", *SIZES, module="tests.app.copying"))
        return servers[-1]

    yield started
    for server in servers:
        if server.process.poll() is None:
            server.kill()
        server.process.stdout.close()


def submit(user, number, **settings):
    return user.call("submit", user.upload(*pair(number)), {"prompt": f"clip {number}", "steps": 2, **settings})["job"]


def entries(folder):
    store = JobStore(folder / "jobs.sqlite3")
    try:
        return {entry.id: entry for entry in store.waiting() + store.over()}
    finally:
        store.close()


def test_a_job_that_is_cancelled_leaves_nothing_and_the_next_has_its_turn(copier):
    user, other = Hostile(copier.address), Hostile(copier.address)
    running_one, waiting, next_one = submit(user, 0, **LONG), submit(user, 1), submit(user, 2)
    assert user.call("cancel", waiting)["state"] == "cancelled"
    user.wait(running_one, "running")
    with pytest.raises(RuntimeError, match="there is no such job"):
        other.call("cancel", running_one)
    began = time.monotonic()
    user.call("cancel", running_one)
    assert user.wait(running_one)["state"] == "cancelled"
    assert time.monotonic() - began < LONG["steps"] * SECONDS_A_STEP
    assert user.wait(next_one)["state"] == "done"
    for job in (running_one, waiting):
        assert user.call("progress", job)["results"] == {}
        assert [path.name for path in (copier.folder / "jobs" / job).iterdir()] == ["input"]
        for name in ("result.mp4", "result.json", "compare.html", "1.webp"):
            assert user.get(f"/results/{job}/{name}").status_code == 404
        assert user.call("cancel", job)["state"] == "cancelled"
    made = (copier.folder / MADE).read_text()
    assert (running_one in made, waiting in made, next_one in made) == (False, False, True)


@pytest.mark.slow
def test_a_killed_server_goes_on_with_its_queue(begin, tmp_path):
    server = begin()
    users = [Hostile(server.address), Hostile(server.address)]
    jobs = [submit(users[0], 0, **LONG), *(submit(users[number % 2], number) for number in range(1, 7))]
    dropped = submit(users[1], 7)
    assert users[1].call("cancel", dropped)["state"] == "cancelled"
    users[0].wait(jobs[0], "running")
    while not users[0].call("progress", jobs[0])["share"]:
        time.sleep(0.05)
    last = submit(users[1], 8)
    server.kill()

    before = entries(tmp_path / "data")
    assert [before[job].state for job in jobs] == ["running"] + ["queued"] * 6
    assert before[last].state == "queued"
    (tmp_path / "data/jobs" / ("f" * 32)).mkdir()  # of a job that was being asked for

    again = begin()
    for user in users:
        user.address = again.address
    for number, job in enumerate(jobs):
        user = users[number % 2]
        assert user.wait(job)["state"] == "done"
        assert user.get(f"/results/{job}/result.mp4").content == digest(pair(number)[0][1])
        assert user.get(f"/results/{job}/result.json").json()["settings"]["prompt"] == f"clip {number}"
    assert users[1].wait(last)["state"] == "done"
    after = entries(tmp_path / "data")
    assert (tmp_path / "data" / MADE).read_text().split() == [*jobs, last]
    assert [after[job].starts for job in (*jobs, last, dropped)] == [2, 1, 1, 1, 1, 1, 1, 1, 0]
    assert after[dropped].state == "cancelled"
    assert {path.name for path in (tmp_path / "data/jobs").iterdir()} == {*jobs, last, dropped}


def frames_of(user, job):
    """Return the frames of a finished job, by their names."""
    with zipfile.ZipFile(io.BytesIO(user.get(f"/results/{job}/frames.zip").content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def damaged_clip():
    """Return the clip with noise in the middle of its pictures, which only decoding finds."""
    content = bytearray(golden.CLIP.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = np.random.default_rng(0).bytes(2000)
    return bytes(content)


@pytest.mark.slow
@pytest.mark.thorough
def test_results_are_those_of_a_server_that_was_not_killed(tmp_path, converted):
    arguments = ("--checkpoint-dir", converted, *SIZES)
    prompt = "[bold red]rain[/] \x1b[31m <b>"
    with running(tmp_path / "data", *arguments) as server:
        user = Caller(server.address)
        settings = {"prompt": prompt, "rate": "", "frame_stride": 1, "steps": 12}
        undisturbed = user.submit(golden.CLIP, **settings)
        user.wait(undisturbed)
        expected = frames_of(user, undisturbed), user.get(f"/results/{undisturbed}/result.mp4").content
        killed, queued = user.submit(golden.CLIP, **settings), user.submit(golden.CLIP, **settings, seed=3)
        while user.wait(killed, "running", "done")["pair"] < 1:
            time.sleep(0.02)
        server.kill()
    assert entries(tmp_path / "data")[killed].state == "running"
    with running(tmp_path / "data", *arguments) as server:
        user.address = server.address
        assert user.wait(killed)["state"] == "done"
        assert (frames_of(user, killed), user.get(f"/results/{killed}/result.mp4").content) == expected
        assert user.wait(queued)["state"] == "done"
        others = frames_of(user, queued)
        assert others.keys() == expected[0].keys()
        assert others != expected[0]
        assert len(user.call("jobs")) == 3

        files = user.upload(("damaged.mp4", damaged_clip()))
        damaged, cut = user.call("submit", files, settings)["job"], user.upload(("a.png", b""), ("b.png", b""))
        failed = user.wait(damaged)
        assert failed["state"] == "failed"
        assert re.match(r"(000\.mp4|damaged\.mp4): ", failed["message"])
        assert "Traceback" not in failed["message"]
        assert str(tmp_path) not in failed["message"]
        with pytest.raises(RuntimeError, match="is empty"):
            user.call("submit", cut, settings)
        assert user.wait(user.submit(golden.CLIP, frame_stride=3))["state"] == "done"
    log = (tmp_path / "data.log").read_text()
    assert re.search(r"going on after pair [1-9] of ", log)
    assert "Traceback" not in log
    assert "\x1b" not in log
