"""Jobs in the file outlive the server, have their turn in order, and are their owner's alone."""

import threading

import pytest

from jax_interp.app.asked import Asked
from jax_interp.app.store import MOST_STARTS, JobStore, owner_of
from jax_interp.errors import JaxInterpError, UsageError
from tests.app.conftest import OTHER, OWNER, add

IDS = [f"{number:032x}" for number in range(4)]


@pytest.fixture
def store(tmp_path):
    now = iter(range(1000))
    opened = JobStore(tmp_path / "jobs.sqlite3", clock=lambda: float(next(now)))
    yield opened
    opened.close()


def test_they_have_their_turn_in_the_order_in_which_they_came(store):
    for id in IDS[:3]:
        add(store, id)
    assert [store.take_next().id for _ in range(3)] == IDS[:3]
    assert store.take_next() is None
    assert store.get(IDS[0]).state == "running"


def test_what_was_asked_comes_back_as_it_was(store):
    asked = Asked(prompt="'; DROP TABLE jobs; --", rate="2x")
    entry = add(store, IDS[0], asked=asked)
    assert entry.settings == asked
    assert (entry.state, entry.input_names, entry.known, entry.is_open) == ("queued", ["000.mp4"], {}, True)


def test_another_server_finds_them(store, tmp_path):
    add(store, IDS[0])
    again = JobStore(tmp_path / "jobs.sqlite3")
    assert again.get(IDS[0]) == store.get(IDS[0])
    again.close()


def test_nobody_sees_anothers(store):
    add(store, IDS[0], OWNER)
    assert store.get(IDS[0], OWNER) is not None
    assert store.get(IDS[0], OTHER) is None
    assert store.of_owner(OTHER) == []
    assert store.ask_to_cancel(IDS[0], OTHER) is None
    assert store.get(IDS[0]).state == "queued"


def test_the_token_itself_is_not_kept(tmp_path, store):
    token = "secret-token" * 4
    add(store, IDS[0], owner_of(token))
    assert store.get(IDS[0], owner_of(token)) is not None
    assert all(token.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_is_told(store):
    add(store, IDS[0])
    add(store, IDS[1])
    store.take_next()
    assert store.ask_to_cancel(IDS[1], OWNER).state == "cancelled"
    running = store.ask_to_cancel(IDS[0], OWNER)
    assert (running.state, running.is_cancelled) == ("running", 1)
    assert store.take_next() is None


def test_a_job_that_is_over_stays_so(store):
    add(store, IDS[0], state="done")
    assert store.ask_to_cancel(IDS[0], OWNER).state == "done"


def test_an_interrupted_job_has_its_turn_again_before_the_others(store):
    add(store, IDS[0])
    add(store, IDS[1])
    store.take_next()
    assert [entry.id for entry in store.requeue_interrupted()] == [IDS[0]]
    assert store.take_next().id == IDS[0]
    assert store.get(IDS[0]).starts == 2


def test_a_job_during_which_the_server_dies_again_and_again_is_given_up(store):
    add(store, IDS[0])
    for _ in range(MOST_STARTS):
        store.take_next()
        store.requeue_interrupted()
    entry = store.get(IDS[0])
    assert entry.state == "failed"
    assert f"ended {MOST_STARTS} times" in entry.message


def test_one_that_was_being_cancelled_does_not_go_on(store):
    add(store, IDS[0])
    store.take_next()
    store.ask_to_cancel(IDS[0], OWNER)
    assert store.requeue_interrupted() == []
    assert store.get(IDS[0]).state == "cancelled"


def test_who_comes_before(store):
    for id in IDS:
        add(store, id)
    store.take_next()
    assert [entry.id for entry in store.ahead_of(store.get(IDS[2]))] == [IDS[0], IDS[1]]
    assert store.ahead_of(store.get(IDS[0])) == []


def test_only_so_many_wait(store):
    store.add(IDS[0], OWNER, "a", Asked(), [], 1.0, 1)
    with pytest.raises(UsageError, match="1 jobs are waiting"):
        store.add(IDS[1], OWNER, "b", Asked(), [], 1.0, 1)
    assert store.get(IDS[1]) is None


def test_many_threads_lose_nothing(store):
    ids = [f"{number:032x}" for number in range(100)]
    threads = [
        threading.Thread(target=lambda part=part: [add(store, id) for id in part]) for part in (ids[::2], ids[1::2])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(store.take_next().id for _ in ids) == ids


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "jobs.sqlite3"
    path.write_bytes(b"not a database at all, whatever its name" * 100)
    with pytest.raises(JaxInterpError, match="not the record of jobs"):
        JobStore(path)
