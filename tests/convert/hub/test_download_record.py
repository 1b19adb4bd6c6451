import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from convert.hub.catalog import Repository
from convert.hub.download_record import RECORD_FILE, read_record, record_commit, record_verified
from convert.hub.listing import RemoteFile, Snapshot
from jax_interp.errors import DownloadError

FILE = RemoteFile("a.json", 3, None, "0" * 40)


def snapshot(name="someone/text", commit="a" * 40):
    return Snapshot(Repository(name, "text", "text_encoder", ("a.json",), gated=False), commit, (FILE,))


def test_there_is_nothing_at_first(tmp_path):
    assert read_record(tmp_path / "new") == {"version": 1, "repositories": {}}
    assert not list(tmp_path.iterdir())


def test_commits_and_files_are_read_back(tmp_path):
    (tmp_path / "a.json").write_bytes(b"{}\n")
    record_commit(tmp_path, snapshot())
    record_verified(tmp_path, snapshot(), FILE, tmp_path / "a.json")
    entry = read_record(tmp_path)["repositories"]["someone/text"]
    assert entry["commit"] == "a" * 40
    assert entry["files"]["a.json"]["size"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", RECORD_FILE]


def test_another_commit_forgets_the_files_and_the_same_one_does_not(tmp_path):
    (tmp_path / "a.json").write_bytes(b"{}\n")
    record_commit(tmp_path, snapshot())
    record_verified(tmp_path, snapshot(), FILE, tmp_path / "a.json")
    record_commit(tmp_path, snapshot())
    assert read_record(tmp_path)["repositories"]["someone/text"]["files"]
    record_commit(tmp_path, snapshot(commit="b" * 40))
    assert not read_record(tmp_path)["repositories"]["someone/text"]["files"]


def test_downloads_at_the_same_time_keep_each_others_entries(tmp_path):
    names = [f"someone/{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: record_commit(tmp_path, snapshot(name)), names))
    assert read_record(tmp_path)["repositories"].keys() == set(names)


ENTRY = {"commit": "a" * 40, "files": {}}


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"9" * 10_000,
        b"[]",
        b"null",
        b"{}",
        *(
            json.dumps({"version": 1, "repositories": value} if not isinstance(value, tuple) else value[0]).encode()
            for value in (
                None,
                [],
                {"a": None},
                {"a": []},
                {"a": {}},
                {"a": ENTRY | {"commit": None}},
                {"a": ENTRY | {"commit": "../../x"}},
                {"a": ENTRY | {"files": []}},
                {"a": ENTRY | {"files": {"b": 3}}},
                ({"version": 2, "repositories": {}},),
            )
        ),
    ],
)
def test_a_damaged_record_is_named(tmp_path, damaged):
    (tmp_path / RECORD_FILE).write_bytes(damaged)
    with pytest.raises(DownloadError, match=rf"(?s){RECORD_FILE} is not a record of this version: .+; delete it"):
        read_record(tmp_path)


def test_a_record_of_gigabytes_is_not_read(tmp_path):
    with (tmp_path / RECORD_FILE).open("wb") as file:
        file.truncate(8 * 2**30)
    with pytest.raises(DownloadError, match="not a record"):
        read_record(tmp_path)
