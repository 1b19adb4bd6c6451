"""Files and folders on their way: names of their own, and what of them is a leftover."""

import fcntl
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jax_interp.files import partial as partial_module
from jax_interp.files.partial import PartialOutput, remove_leftovers


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_gets_its_name_when_it_is_whole(tmp_path):
    (tmp_path / "film.mp4").write_text("old")
    partial = PartialOutput(tmp_path / "film.mp4")
    assert names(tmp_path) == ["film.mp4"]
    partial.create_file().write(b"new")
    assert re.fullmatch(r"\.film\.mp4\.[0-9a-f]{12}\.part", names(tmp_path)[0])
    assert (tmp_path / "film.mp4").read_text() == "old"
    partial.publish()
    partial.discard()
    assert names(tmp_path) == ["film.mp4"]
    assert (tmp_path / "film.mp4").read_text() == "new"


def test_a_folder_with_those_above_it(tmp_path):
    partial = PartialOutput(tmp_path / "a" / "frames")
    partial.create_folder()
    (partial.path / "x").touch()
    partial.publish()
    assert names(tmp_path / "a") == ["frames"]
    assert names(tmp_path / "a" / "frames") == ["x"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_discarded(tmp_path, kind):
    partial = PartialOutput(tmp_path / "x")
    partial.discard()
    getattr(partial, f"create_{kind}")()
    if kind == "folder":
        (partial.path / "y").touch()
    partial.discard()
    assert names(tmp_path) == []


def test_two_runs_do_not_meet(tmp_path):
    one, two = PartialOutput(tmp_path / "x"), PartialOutput(tmp_path / "x")
    one.create_file().write(b"1")
    two.create_file().write(b"2")
    one.publish()
    two.publish()
    assert (tmp_path / "x").read_bytes() == b"2"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_being_written_is_no_leftover(tmp_path, kind):
    partial = PartialOutput(tmp_path / "x")
    getattr(partial, f"create_{kind}")()
    remove_leftovers(tmp_path / "x")
    assert partial.path.exists()
    partial.discard()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed(tmp_path, kind):
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom jax_interp.files.partial import PartialOutput\n"
        f"PartialOutput(Path(sys.argv[1])).create_{kind}()\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    remove_leftovers(tmp_path / "other")
    assert len(names(tmp_path)) == 1
    remove_leftovers(tmp_path / "x")
    assert names(tmp_path) == []


def test_only_names_of_ours_are_leftovers(tmp_path):
    kept = [
        "x.part",
        ".x.part",
        ".x.0123456789ab.part.txt",
        ".x.0123456789AB.part",
        ".yx.0123456789ab.part",
        "x.partial",
    ]
    for name in kept:
        (tmp_path / name).write_text("mine")
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".x.0123456789ab.part").symlink_to(tmp_path / "mine")
    remove_leftovers(tmp_path / "x")
    assert set(kept) <= set(names(tmp_path))
    assert (tmp_path / "mine").read_text() == "mine"


def test_letters_of_a_name_are_no_pattern(tmp_path):
    (tmp_path / ".axb.0123456789ab.part").touch()
    remove_leftovers(tmp_path / "a.b")
    assert names(tmp_path) == [".axb.0123456789ab.part"]


def test_where_there_are_no_locks_nothing_is_removed(tmp_path, monkeypatch):
    def no_locks(handle, operation):
        raise OSError(37, "No locks available")

    (tmp_path / ".x.0123456789ab.part").touch()
    monkeypatch.setattr(fcntl, "flock", no_locks)
    remove_leftovers(tmp_path / "x")
    assert names(tmp_path) == [".x.0123456789ab.part"]


def test_a_folder_that_is_not_there(tmp_path):
    remove_leftovers(tmp_path / "none" / "x")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_taken_for_a_leftover_before_it_is_locked_is_made_anew(tmp_path, monkeypatch, kind):
    partial, tries = PartialOutput(tmp_path / "x"), []
    real = partial_module._hold

    def lose_the_first(handle):
        if not tries:
            remove_leftovers(tmp_path / "x")
        tries.append(partial.path)
        return real(handle)

    monkeypatch.setattr(partial_module, "_hold", lose_the_first)
    getattr(partial, f"create_{kind}")()
    assert len(set(tries)) == 2
    assert [path.name for path in tmp_path.iterdir()] == [partial.path.name]
    partial.discard()


def open_handles():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_handle_stays_open(tmp_path):
    before = open_handles()
    for number in range(20):
        partial = PartialOutput(tmp_path / "x")
        (partial.create_file if number % 2 else partial.create_folder)()
        partial.discard()
    assert open_handles() == before
