import dataclasses
import logging

import pytest

from convert.hub.catalog import PUBLISHED_MD5
from convert.progress import no_progress
from convert.source.provenance import Md5Policy, SourceRecord, check_published, record_sources
from jax_interp.errors import CheckpointError

NAME = "Cosmos-Predict1-7B-WorldInterpolator"
HELLO_MD5 = "5d41402abc4b2a76b9719d911017c592"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setitem(PUBLISHED_MD5, f"{NAME}/good.pt", HELLO_MD5)
    monkeypatch.setitem(PUBLISHED_MD5, f"{NAME}/bad.pt", "0" * 32)
    for name in ("good.pt", "bad.pt", "own.pt"):
        (tmp_path / name).write_text("hello")
    return tmp_path


@pytest.fixture
def log(caplog, monkeypatch):
    """The package's log lines, also if an earlier test has run a command, which sends them to the terminal."""
    monkeypatch.setattr(logging.getLogger("jax_interp"), "propagate", True)
    caplog.set_level(logging.INFO, "jax_interp")
    return caplog


def record(folder, *names, earlier=None, policy: Md5Policy = "warn"):
    return record_sources(folder, NAME, [folder / name for name in names], earlier or {}, policy, no_progress)


def test_files_are_compared_with_the_published_ones(folder):
    records = record(folder, "good.pt", "bad.pt", "own.pt")
    assert [entry.published_md5 for entry in records] == ["matches", "differs", "unknown"]
    assert {entry.md5 for entry in records} == {HELLO_MD5}
    assert {entry.size for entry in records} == {5}


def test_without_comparison_no_md5_is_made(folder):
    (entry,) = record(folder, "good.pt", policy="skip")
    assert (entry.md5, entry.published_md5) == (None, None)
    assert len(entry.sha256) == 64


def test_files_that_did_not_change_are_not_read_again(folder):
    (entry,) = record(folder, "good.pt")
    earlier = {"sources": [dataclasses.asdict(dataclasses.replace(entry, sha256="remembered"))]}
    assert record(folder, "good.pt", earlier=earlier)[0].sha256 == "remembered"
    (folder / "good.pt").write_text("hullo")
    assert record(folder, "good.pt", earlier=earlier)[0].sha256 != "remembered"


def test_an_md5_that_was_not_made_is_made_when_it_is_wanted(folder):
    (entry,) = record(folder, "bad.pt", policy="skip")
    earlier = {"sources": [dataclasses.asdict(entry)]}
    assert record(folder, "bad.pt", earlier=earlier, policy="require")[0].published_md5 == "differs"


def test_a_file_that_differs_is_a_warning_or_an_error(folder, log):
    records = record(folder, "good.pt", "bad.pt", "own.pt")
    check_published(NAME, records, "skip")
    assert log.text == ""
    check_published(NAME, records, "warn")
    assert "bad.pt is not the published file" in log.text
    assert "good.pt" not in log.text
    with pytest.raises(CheckpointError, match=f"bad.pt has md5 {HELLO_MD5}, expected {'0' * 32}.*--check-md5"):
        check_published(NAME, records, "require")


def test_files_that_nobody_published_are_said_to_be_unchecked(folder, log):
    check_published(NAME, record(folder, "good.pt", "own.pt"), "require")
    assert "no MD5 is published for own.pt: not checked" in log.text
    with pytest.raises(CheckpointError, match=r"no MD5 is published for own.pt"):
        check_published(NAME, record(folder, "own.pt"), "require")


def test_a_record_goes_through_json(folder):
    (entry,) = record(folder, "good.pt")
    assert SourceRecord(**vars(entry)) == entry
