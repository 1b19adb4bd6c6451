import errno
import json
import os
import resource
import shutil
from collections import namedtuple
from pathlib import Path

import huggingface_hub.constants
import pytest

from convert.hub import download as module
from convert.hub.catalog import Repository
from convert.hub.client import Hub
from convert.hub.download import RECORD_FILE, download, parse_revisions, plan_download
from jax_interp.errors import DownloadError, UsageError
from tests.convert.fake_hub import MEMBER, FakeHub, FakeRepository, serve

TEXT = Repository("someone/text", "text/big", "text_encoder", ("config.json", "model.bin"), gated=False)
TOKENIZER = Repository("someone/tokenizer", "tokenizer", "tokenizer", ("encoder.jit",), gated=True)
MODEL = bytes(range(256)) * 4000


@pytest.fixture(autouse=True)
def online(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def fake():
    repositories = {
        TEXT.repo_id: FakeRepository({"config.json": b"{}\n", "model.bin": MODEL}, big=frozenset({"model.bin"})),
        TOKENIZER.repo_id: FakeRepository({"encoder.jit": b"weights"}, gated=True, big=frozenset({"encoder.jit"})),
    }
    with serve(FakeHub(repositories)) as hub:
        yield hub


def client(fake, token=None):
    return Hub(fake.endpoint, token, attempts=2, backoff=0.0)


def run(fake, folder, repositories=(TEXT,), revisions=None, token=None, **options):
    hub = client(fake, token)
    plan = plan_download(hub, folder, repositories, revisions or {})
    counts: dict[str, int] = {}
    download(hub, plan, lambda file, count: counts.__setitem__(file.key, counts.get(file.key, 0) + count), **options)
    return counts


def states(fake, folder):
    return {file.remote.name: file.state for file in plan_download(client(fake), folder, [TEXT], {}).files}


def test_files_land_in_upstreams_layout_and_the_commit_is_recorded(fake, tmp_path):
    counts = run(fake, tmp_path, [TEXT, TOKENIZER], token=MEMBER)
    assert (tmp_path / "text/big/model.bin").read_bytes() == MODEL
    assert (tmp_path / "tokenizer/encoder.jit").read_bytes() == b"weights"
    assert counts == {"text/big/config.json": 3, "text/big/model.bin": len(MODEL), "tokenizer/encoder.jit": 7}
    record = json.loads((tmp_path / RECORD_FILE).read_text())
    assert record["repositories"]["someone/text"]["commit"] == "a" * 40
    assert sorted(path.name for path in (tmp_path / "text/big").iterdir()) == ["config.json", "model.bin"]


def test_second_run_fetches_nothing_and_stays_at_the_recorded_commit(fake, tmp_path):
    run(fake, tmp_path)
    before = len(fake.transfers())
    fake.repositories[TEXT.repo_id].commit = "b" * 40
    message = failure(plan_download, client(fake), tmp_path, [TEXT], {})
    assert f"no revision {'a' * 40}" in message
    fake.repositories[TEXT.repo_id].commit = "a" * 40
    assert run(fake, tmp_path) == {}
    assert len(fake.transfers()) == before


def test_plan_shows_sizes_and_touches_nothing(fake, tmp_path):
    plan = plan_download(client(fake), tmp_path / "new", [TEXT], {})
    assert plan.total == plan.to_fetch == len(MODEL) + 3
    assert plan.free > 0
    assert [file.state for file in plan.files] == ["missing", "missing"]
    assert not (tmp_path / "new").exists()
    assert not fake.transfers()


def test_interrupted_download_goes_on(fake, tmp_path):
    fake.breaks = [2, 99, 1000, 0]
    assert "the same command goes on" in failure(run, fake, tmp_path)
    assert states(fake, tmp_path) == {"config.json": "complete", "model.bin": "partial"}
    assert not (tmp_path / "text/big/model.bin").exists()
    assert run(fake, tmp_path) == {"text/big/model.bin": len(MODEL) - 1000}
    assert fake.transfers()[-1] == ("model.bin", "bytes=1000-")
    assert (tmp_path / "text/big/model.bin").read_bytes() == MODEL


def test_interrupted_by_the_user_keeps_what_arrived(fake, tmp_path):
    hub = client(fake)
    plan = plan_download(hub, tmp_path, [TEXT], {})

    def stop(file, count):
        if file.remote.name == "model.bin":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(hub, plan, stop)
    assert states(fake, tmp_path)["model.bin"] == "partial"
    assert 0 < run(fake, tmp_path)["text/big/model.bin"] < len(MODEL)


def test_file_that_lies_there_already_is_checked_not_fetched(fake, tmp_path):
    (tmp_path / "text/big").mkdir(parents=True)
    (tmp_path / "text/big/model.bin").write_bytes(MODEL)
    assert states(fake, tmp_path) == {"config.json": "missing", "model.bin": "unverified"}
    assert run(fake, tmp_path) == {"text/big/config.json": 3, "text/big/model.bin": 0}
    assert states(fake, tmp_path) == {"config.json": "complete", "model.bin": "complete"}


def test_file_that_was_changed_since_is_noticed(fake, tmp_path):
    run(fake, tmp_path)
    (tmp_path / "text/big/model.bin").write_bytes(MODEL[::-1])
    assert states(fake, tmp_path)["model.bin"] == "unverified"
    message = failure(run, fake, tmp_path)
    assert "model.bin is damaged or another file: SHA-256" in message
    assert "run this command again" in message
    assert (tmp_path / "text/big/model.bin.corrupt").read_bytes() == MODEL[::-1]
    run(fake, tmp_path)
    assert (tmp_path / "text/big/model.bin").read_bytes() == MODEL


def test_other_revision_replaces_files_once_they_are_whole(fake, tmp_path):
    run(fake, tmp_path)
    fake.repositories[TEXT.repo_id] = FakeRepository(
        {"config.json": b"{}\n", "model.bin": MODEL + b"!"}, "b" * 40, big=frozenset({"model.bin"})
    )
    fake.breaks = [500, 0]
    failure(run, fake, tmp_path, (TEXT,), {TEXT.repo_id: "main"})
    assert (tmp_path / "text/big/model.bin").read_bytes() == MODEL
    counts = run(fake, tmp_path)
    assert counts == {"text/big/config.json": 0, "text/big/model.bin": len(MODEL) + 1 - 500}
    assert (tmp_path / "text/big/model.bin").read_bytes() == MODEL + b"!"


def test_damaged_transfer_is_reported_and_set_aside(fake, tmp_path):
    rotten = FakeRepository({"config.json": b"{]\n", "model.bin": MODEL}, big=frozenset({"model.bin"}))
    honest = fake.repositories[TEXT.repo_id].listing()
    rotten.listing = lambda: honest  # the listing's checksums are of other bytes
    fake.repositories[TEXT.repo_id] = rotten
    message = failure(run, fake, tmp_path)
    assert "config.json is damaged or another file: Git SHA-1" in message
    assert (tmp_path / "text/big/config.json.corrupt").read_bytes() == b"{]\n"
    assert not (tmp_path / "text/big/config.json").exists()


def test_md5_of_the_known_release_is_compared(fake, tmp_path, monkeypatch):
    monkeypatch.setitem(module.PUBLISHED_MD5, "text/big/model.bin", "0" * 32)
    message = failure(run, fake, tmp_path)
    assert "MD5" in message
    assert f"expected {'0' * 32}" in message
    assert "--no-check-md5" in message
    assert "--revision someone/text=REVISION" in message
    assert (tmp_path / "text/big/model.bin.corrupt").exists()
    run(fake, tmp_path, check_md5=False)
    assert (tmp_path / "text/big/model.bin").exists()


def test_right_md5_passes(fake, tmp_path, monkeypatch):
    monkeypatch.setitem(module.PUBLISHED_MD5, "text/big/config.json", "8a80554c91d9fca8acb82f023de02f11")
    run(fake, tmp_path)
    assert (tmp_path / "text/big/config.json").exists()


def test_refused_access_is_reported_before_anything_is_fetched(fake, tmp_path):
    message = failure(run, fake, tmp_path, [TEXT, TOKENIZER])
    assert "someone/tokenizer" in message
    assert "no token was sent (401)" in message
    assert not fake.transfers()
    assert not (tmp_path / "text").exists()


def test_small_disk_is_reported_before_anything_is_fetched(fake, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    message = failure(run, fake, tmp_path)
    assert "1.0 kB free" in message
    assert "--components" in message
    assert not fake.transfers()


def test_a_wrong_file_is_fetched_once_a_run_and_never_gets_the_name(fake, tmp_path):
    fake.repositories[TEXT.repo_id].listing = lambda: [
        row | {"lfs": {"sha256": "0" * 64, "size": len(MODEL), "pointerSize": 130}} if "lfs" in row else row
        for row in FakeRepository.listing(fake.repositories[TEXT.repo_id])
    ]
    for count in (1, 2):
        assert "model.bin is damaged or another file: SHA-256" in failure(run, fake, tmp_path)
        assert fake.transfers().count(("model.bin", None)) == count
        assert sorted(path.name for path in (tmp_path / "text/big").iterdir()) == ["config.json", "model.bin.corrupt"]


def test_an_empty_file_is_complete_only_if_its_checksum_says_so(fake, tmp_path):
    fake.repositories[TEXT.repo_id].files["config.json"] = b""
    run(fake, tmp_path)
    assert (tmp_path / "text/big/config.json").read_bytes() == b""
    shutil.rmtree(tmp_path / "text")
    rows = [row | {"blobId": "0" * 40} for row in fake.repositories[TEXT.repo_id].listing()]
    fake.repositories[TEXT.repo_id].listing = lambda: rows
    assert "config.json is damaged or another file: Git SHA-1" in failure(run, fake, tmp_path)
    assert not (tmp_path / "text/big/config.json").exists()


def test_a_part_that_is_longer_than_the_file_is_set_aside(fake, tmp_path):
    part = tmp_path / f"text/big/config.json.{'a' * 12}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"{}\n and more")
    assert "config.json is damaged or another file: size 12, expected 3" in failure(run, fake, tmp_path)
    run(fake, tmp_path)
    assert (tmp_path / "text/big/config.json").read_bytes() == b"{}\n"


def test_every_refusal_is_named_at_once(fake, tmp_path):
    other = Repository("someone/other", "other", "tokenizer", ("encoder.jit",), gated=True)
    fake.repositories[other.repo_id] = fake.repositories[TOKENIZER.repo_id]
    message = failure(run, fake, tmp_path, [TOKENIZER, TEXT, other])
    assert "https://huggingface.co/someone/tokenizer" in message
    assert "https://huggingface.co/someone/other" in message
    assert len(message.splitlines()) == 2


def in_the_way(folder: Path, name: str) -> Path:
    """A folder where the plan puts the file `name`, or a file where it puts a folder."""
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix:
        place.mkdir()
    else:
        place.write_bytes(b"mine")
    return place


@pytest.mark.parametrize("name", ["text/big/model.bin", "text/big", "text", RECORD_FILE])
def test_what_is_in_the_way_is_named_before_anything_is_fetched(fake, tmp_path, name):
    place = in_the_way(tmp_path, name)
    message = failure(run, fake, tmp_path)
    assert f"{place} is in the way" in message
    assert "move it away or name another --checkpoint-dir" in message
    assert not fake.transfers()
    assert place.exists()


def test_a_file_as_the_checkpoint_folder(fake, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    assert f"{tmp_path / 'file'} is in the way" in failure(run, fake, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_folder_in_place_of_what_is_set_aside(fake, tmp_path):
    run(fake, tmp_path)
    (tmp_path / "text/big/model.bin").write_bytes(MODEL[::-1])
    (tmp_path / "text/big/model.bin.corrupt").mkdir()
    assert "is in the way" in failure(run, fake, tmp_path)


def test_a_folder_that_may_not_be_written(fake, tmp_path, monkeypatch):
    """By a stand-in: to the superuser, who runs many tests, every folder is writable."""
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    message = failure(run, fake, tmp_path)
    assert f"{tmp_path} may not be written; change its permissions or name another --checkpoint-dir" in message
    assert not fake.transfers()


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_part_that_is_no_file(fake, tmp_path, kind):
    part = tmp_path / f"text/big/model.bin.{'a' * 12}.part"
    part.parent.mkdir(parents=True)
    part.symlink_to(tmp_path / "elsewhere") if kind == "link" else os.mkfifo(part)
    assert f"{part} is not a file of an earlier download; move it away" in failure(run, fake, tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_limit_on_file_sizes(fake, tmp_path):
    """What `ulimit -f` does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        message = failure(run, fake, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "someone/text/model.bin" in message
    assert "files of this size are not taken here; raise the limit (`ulimit -f`)" in message
    assert run(fake, tmp_path)["text/big/model.bin"] == len(MODEL) - 500_000
    assert (tmp_path / "text/big/model.bin").read_bytes() == MODEL


def test_a_disk_that_fills_up(fake, tmp_path, monkeypatch):
    hub = client(fake)
    plan = plan_download(hub, tmp_path, [TEXT], {})
    arrived = 0

    def fill(file, count):
        nonlocal arrived
        arrived += count
        if arrived > 300_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DownloadError, match=r"model\.bin .*the disk is full; free some space, then the same command"):
        download(hub, plan, fill)
    assert states(fake, tmp_path) == {"config.json": "complete", "model.bin": "partial"}
    assert 0 < run(fake, tmp_path)["text/big/model.bin"] < len(MODEL) - 200_000
    assert (tmp_path / "text/big/model.bin").read_bytes() == MODEL


def test_unreadable_record_is_named(fake, tmp_path):
    (tmp_path / RECORD_FILE).write_text("{")
    assert RECORD_FILE in failure(plan_download, client(fake), tmp_path, [TEXT], {})


def test_revisions_for_all_and_for_one():
    assert parse_revisions(["main"], [TEXT, TOKENIZER]) == {TEXT.repo_id: "main", TOKENIZER.repo_id: "main"}
    assert parse_revisions(["main", "someone/text=v1"], [TEXT, TOKENIZER]) == {
        TEXT.repo_id: "v1",
        TOKENIZER.repo_id: "main",
    }
    with pytest.raises(UsageError, match="someone/else is not fetched"):
        parse_revisions(["someone/else=v1"], [TEXT])


def failure(call, *args):
    with pytest.raises(DownloadError) as caught:
        call(*args)
    return str(caught.value)
