"""Files that are whole or not there."""

import errno
import os
import resource

import pytest

from jax_interp.files.atomic import open_atomically, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fail_while_writing(path, error):
    with open_atomically(path) as file:
        file.write(b"half")
        raise error


def test_what_was_written(tmp_path):
    write_atomically(tmp_path / "x", b"old")
    with open_atomically(tmp_path / "x") as file:
        file.write(b"ne")
        assert (tmp_path / "x").read_bytes() == b"old"
        file.write(b"w")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    write_atomically(tmp_path / "x", b"old")
    with pytest.raises(error):
        fail_while_writing(tmp_path / "x", error())
    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_a_file_that_cannot_grow(tmp_path):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_atomically(tmp_path / "x", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert names(tmp_path) == []


def test_a_disk_that_says_late_that_it_is_full(tmp_path, monkeypatch):
    """As network file systems do."""

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_atomically(tmp_path / "x", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_leftovers_go_with_the_next_write(tmp_path):
    (tmp_path / ".x.0123456789ab.part").write_bytes(b"half")
    (tmp_path / ".y.0123456789ab.part").write_bytes(b"half")
    write_atomically(tmp_path / "x", b"new")
    assert names(tmp_path) == [".y.0123456789ab.part", "x"]
