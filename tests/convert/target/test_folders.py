import errno
import shutil
from collections import namedtuple

import pytest

from convert.target.folders import check_space, clear_leftovers, refuse_foreign_files, replace_atomically, writer_lock
from jax_interp.errors import CheckpointError


def fail_while_writing(target, error):
    with replace_atomically(target) as work:
        (work / "a").write_text("half")
        raise error


def test_a_folder_appears_only_when_it_is_done(tmp_path):
    target = tmp_path / "google-t5" / "t5-11b"
    with replace_atomically(target) as work:
        (work / "a").write_text("new")
        assert not target.exists()
    assert (target / "a").read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["t5-11b"]


def test_a_failure_leaves_what_was_there(tmp_path):
    target = tmp_path / "x"
    with replace_atomically(target) as work:
        (work / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail_while_writing(target, KeyboardInterrupt())
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    with replace_atomically(target) as work:
        (work / "a").write_text("new")
    assert (target / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_failure_leaves_no_empty_folder(tmp_path):
    with pytest.raises(RuntimeError), replace_atomically(tmp_path / "google-t5" / "t5-11b"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        ValueError("RESOURCE_EXHAUSTED: Failed to write 5 bytes to file 7: No space left on device"),
        ValueError("RESOURCE_EXHAUSTED: Failed to write [os_error_code='28']"),
    ],
)
def test_a_full_disk_is_named_and_cleared_up(tmp_path, error):
    with pytest.raises(CheckpointError, match="x: the disk is full; nothing"):
        fail_while_writing(tmp_path / "x", error)
    assert list(tmp_path.iterdir()) == []


def test_other_faults_of_the_disk_are_named_and_other_errors_pass(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be written"), replace_atomically(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(ValueError, match="unrelated"), replace_atomically(tmp_path / "x"):
        raise ValueError("unrelated")


def test_leftovers_are_cleared_and_a_replaced_folder_comes_back(tmp_path):
    target = tmp_path / "x"
    assert not clear_leftovers(target)
    (tmp_path / ".x.converting").mkdir()
    (tmp_path / ".x.replaced").mkdir()
    (tmp_path / ".x.replaced" / "a").write_text("old")
    assert clear_leftovers(target)
    assert (target / "a").read_text() == "old"
    (tmp_path / ".x.replaced").mkdir()
    assert clear_leftovers(target)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_two_cannot_write_to_one_folder(tmp_path):
    folder = tmp_path / "converted"
    with writer_lock(folder):
        with pytest.raises(CheckpointError, match="another jax-interp is writing"), writer_lock(folder):
            pass
        assert folder.is_dir()
    assert not folder.exists()


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written to"), writer_lock(tmp_path / "file"):
        pass


def test_strangers_are_refused(tmp_path):
    (tmp_path / "params").mkdir()
    refuse_foreign_files(tmp_path, {"params", "config.json"})
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(CheckpointError, match=r"did not write there \(thesis.txt\)"):
        refuse_foreign_files(tmp_path, {"params", "config.json"})


def test_space_is_checked_where_the_folder_will_be(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or usage(10**9))
    check_space(tmp_path / "a" / "b", 10**9)
    assert asked == [tmp_path]
    with pytest.raises(CheckpointError, match=r"2\.0 GB are needed and 1\.0 GB are free"):
        check_space(tmp_path / "a" / "b", 2 * 10**9)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EFBIG, "File too large"), r"x: a file would be larger .*ulimit -f"),
        (ValueError("OUT_OF_RANGE: File too large [os_error_code='27']"), r"x: a file would be larger .*ulimit -f"),
        (
            ValueError("PERMISSION_DENIED: no [os_error_code='13']"),
            r"x: cannot be written \(Permission denied\); nothing",
        ),
        (ValueError("DATA_LOSS: no [os_error_code='5']"), r"x: cannot be written \(Input/output error\); nothing"),
        (OSError("no number"), r"x: cannot be written \(no number\); nothing"),
    ],
)
def test_whatever_the_system_does_not_write_is_named_and_cleared_up(tmp_path, error, message):
    with pytest.raises(CheckpointError, match=message):
        fail_while_writing(tmp_path / "x", error)
    assert list(tmp_path.iterdir()) == []
