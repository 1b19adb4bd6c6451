"""A broken or hostile hub costs a bounded number of requests, bytes and seconds, and a message says what it did."""

import json
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

import huggingface_hub.constants
import pytest

from convert.hub.catalog import Repository
from convert.hub.client import Hub
from convert.hub.download import download, plan_download
from jax_interp.errors import DownloadError
from tests.convert.fake_hub import MEMBER, FakeHub, FakeRepository, serve
from tests.convert.hostile_hub import DATA, HARMLESS, LISTINGS, TRANSFERS, head

REPOSITORY = Repository("someone/text", "text", "text_encoder", ("config.json", "model.bin"), gated=True)
ATTEMPTS, PATIENCE = 3, 0.5
MOST_REQUESTS = 40
MOST_SECONDS = 20.0  # measured on a busy machine: 2 s for the slowest


@pytest.fixture(autouse=True)
def online(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def fake():
    repository = FakeRepository({"config.json": b"{}\n", "model.bin": DATA})
    with serve(FakeHub({REPOSITORY.repo_id: repository}, most_requests=MOST_REQUESTS)) as hub:
        yield hub


@dataclass
class Outcome:
    error: DownloadError | None
    seconds: float

    @property
    def message(self) -> str:
        return str(self.error or "")


def attack(fake, folder: Path) -> Outcome:
    """The whole program against the hub, with the bounds that hold for every mode."""
    hub = Hub(fake.endpoint, MEMBER, attempts=ATTEMPTS, backoff=0.01, timeout=PATIENCE, min_bytes=10_000)
    began, error = time.monotonic(), None
    try:
        download(hub, plan_download(hub, folder, [REPOSITORY], {}), lambda file, count: None)
    except DownloadError as raised:
        error = raised
    outcome = Outcome(error, time.monotonic() - began)
    assert len(fake.requests) <= MOST_REQUESTS
    assert outcome.seconds <= MOST_SECONDS
    written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".json")
    assert written <= len(DATA)
    assert not fake.leaks
    return outcome


def assert_no_token(outcome: Outcome, records) -> None:
    error: BaseException | None = outcome.error
    while error is not None:
        assert MEMBER not in f"{error} {error!r} {error.args}".lower()
        error = error.__cause__ or error.__context__
    assert not [record for record in records if MEMBER in f"{record.getMessage()} {record.args}".lower()]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * mode.slow) for name, mode in TRANSFERS.items()]
)
def test_a_hostile_transfer(fake, tmp_path, caplog, name):
    mode, calls = TRANSFERS[name], []
    target = tmp_path / "text/model.bin"
    if mode.begun:
        target.parent.mkdir()
        target.with_name(f"model.bin.{'a' * 12}.part").write_bytes(DATA[: mode.begun])

    def act(handler, path):
        if not path.startswith("/cdn/") or path.endswith("config.json"):
            return False
        calls.append(path)
        if len(calls) > mode.times:
            return False
        mode.answer(handler)
        return True

    fake.act = act
    with caplog.at_level(logging.DEBUG):
        outcome = attack(fake, tmp_path)
    assert calls
    assert_no_token(outcome, caplog.records)
    if mode.says:
        assert "someone/text/model.bin" in outcome.message
        assert mode.says in outcome.message
        assert outcome.message.isprintable()
        assert not target.exists()
    else:
        assert outcome.error is None
        assert target.read_bytes() == DATA


@pytest.mark.parametrize("name", LISTINGS)
def test_a_hostile_listing(fake, tmp_path, name):
    change, says = LISTINGS[name]
    answer_listing(fake, change)
    outcome = attack(fake, tmp_path)
    assert "someone/text at main: the hub's answer " in outcome.message
    assert says in outcome.message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", HARMLESS)
def test_what_the_listing_says_beside_the_files_does_not_matter(fake, tmp_path, name):
    answer_listing(fake, HARMLESS[name])
    assert attack(fake, tmp_path).error is None
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["config.json", "download.json", "model.bin", "text"]


@pytest.mark.parametrize("name", ["a login page", "an endless body", "no HTTP", "the token in an error"])
def test_a_hostile_answer_instead_of_the_listing_and_of_the_permission(fake, tmp_path, name):
    for begin in ("/api/", "/someone/text/resolve/"):
        fake.act = lambda handler, path, begin=begin: path.startswith(begin) and not TRANSFERS[name].answer(handler)
        outcome = attack(fake, tmp_path)
        assert "someone/text" in outcome.message
        assert not [path for path in tmp_path.rglob("*") if path.stat().st_size and path.suffix == ".part"]
        fake.requests.clear()


def test_a_pinned_commit_is_the_one_that_comes(fake, tmp_path):
    answer_listing(fake, lambda listing: listing | {"sha": "b" * 40})
    hub = Hub(fake.endpoint, MEMBER, attempts=1)
    with pytest.raises(DownloadError, match=f"is of commit {'b' * 40}, which was not asked for"):
        plan_download(hub, tmp_path, [REPOSITORY], {REPOSITORY.repo_id: "a" * 40})


def test_a_repository_in_several_rows_is_of_one_commit(fake, tmp_path):
    """The branch moves on between two requests."""
    commits = iter("abc")
    answer_listing(fake, lambda listing: listing | {"sha": next(commits) * 40})
    rows = [replace(REPOSITORY, files=(name,)) for name in REPOSITORY.files]
    with pytest.raises(DownloadError, match=f"is of commit {'b' * 40}"):
        plan_download(Hub(fake.endpoint, MEMBER, attempts=1), tmp_path, rows, {})


def test_requests_wait_longer_and_longer(fake, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    fake.status = 503
    hub = Hub(fake.endpoint, MEMBER, attempts=6, backoff=2.0)
    with pytest.raises(DownloadError, match=r"in trouble \(503\)"):
        hub.snapshot(REPOSITORY, "main")
    assert len(waits) == 5
    assert all(0.75 * wanted <= wait <= 1.25 * wanted for wait, wanted in zip(waits, (2, 4, 8, 16, 32), strict=True))
    assert len({wait / 2**index for index, wait in enumerate(waits)}) > 1, "no jitter"


def test_waits_that_the_hub_asks_for_are_said(fake, tmp_path, monkeypatch, caplog):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    answers = iter([{"Retry_After": 90}, {"Retry_After": 0}])
    fake.act = lambda handler, path: bool(
        (headers := next(answers, None)) and not handler.raw(head(429, Content_Length=0, **headers))
    )
    Hub(fake.endpoint, MEMBER, backoff=1.0).snapshot(REPOSITORY, "main")
    assert waits[0] == 90
    assert 1.5 <= waits[1] <= 2.5
    assert "someone/text at main: too many requests (429). Trying again in 90 s, as the hub asks (try 2 of 5)" in (
        caplog.text
    )


def test_progress_is_what_lies_beyond_the_furthest_byte(fake, tmp_path):
    """The connection breaks six times, more often than tries are allowed, but each one brings something new."""
    fake.breaks = [15_000] * 6
    assert attack(fake, tmp_path).error is None
    assert (tmp_path / "text/model.bin").read_bytes() == DATA


def test_a_slow_but_steady_connection_is_waited_for(fake, tmp_path):
    """It takes longer than the timeout, which is for the next bytes, not for the whole file."""

    def act(handler, path):
        if path.endswith("model.bin") and path.startswith("/cdn/"):
            pieces = [DATA[i : i + 4000] for i in range(0, len(DATA), 4000)]
            handler.raw(head(200, Content_Length=len(DATA)), forever=pieces, pause=0.04)
            return True
        return False

    fake.act = act
    outcome = attack(fake, tmp_path)
    assert outcome.error is None
    assert outcome.seconds > 2 * PATIENCE


def answer_listing(fake, change) -> None:
    def act(handler, path):
        if not path.startswith("/api/models/"):
            return False
        repository = fake.repositories[REPOSITORY.repo_id]
        honest = {"id": REPOSITORY.repo_id, "sha": repository.commit, "siblings": repository.listing()}
        body = change(honest)
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.raw(head(200, Content_Length=len(body), Content_Type="text/plain"), body)
        return True

    fake.act = act
