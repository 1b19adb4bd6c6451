"""Locks: who holds one, what another process is told, and what is left when the holder is killed."""

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from jax_interp.errors import MediaError, UsageError
from jax_interp.files import lock
from jax_interp.files.lock import flock, holder_of, lock_file, lock_path, locked

ME = rf"process {os.getpid()} on [\w.-]+ since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC"


def held(path):
    return lock_file(path, lambda holder: MediaError(f"held by {holder}"))


@pytest.fixture
def child(tmp_path):
    """A process that holds the lock file `lock` until it is killed."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom jax_interp.files.lock import lock_file\n"
        "with lock_file(Path(sys.argv[1]), RuntimeError):\n    print('holds', flush=True)\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    yield process
    process.kill()
    process.communicate()


def test_the_file_is_there_while_it_is_held(tmp_path):
    with held(tmp_path / "lock") as was_left:
        assert not was_left
        assert re.fullmatch(rf"jax-interp: held by {ME}\n", (tmp_path / "lock").read_text())
    assert list(tmp_path.iterdir()) == []


def test_a_second_one_is_told_who_holds_it(tmp_path):
    with held(tmp_path / "lock"):
        with pytest.raises(MediaError, match=rf"^held by {ME}$"), held(tmp_path / "lock"):
            pass
        assert re.fullmatch(ME, holder_of(tmp_path / "lock") or "")
        assert (tmp_path / "lock").exists()
    assert holder_of(tmp_path / "lock") is None


def test_another_process(tmp_path, child):
    with pytest.raises(MediaError, match=rf"^held by process {child.pid} on "), held(tmp_path / "lock"):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, child):
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (tmp_path / "lock").exists()
    assert holder_of(tmp_path / "lock") is None
    with held(tmp_path / "lock") as was_left:
        assert was_left
        assert f"process {os.getpid()} " in (tmp_path / "lock").read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_process_killed_before_it_wrote_its_note(tmp_path):
    (tmp_path / "lock").touch()
    with held(tmp_path / "lock") as was_left:
        assert was_left
    assert list(tmp_path.iterdir()) == []


def test_a_holder_without_a_note(tmp_path):
    (tmp_path / "lock").touch()
    with (tmp_path / "lock").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(MediaError, match="held by which left no note of itself"), held(tmp_path / "lock"):
            pass


def test_what_else_a_note_says_is_not_repeated(tmp_path):
    (tmp_path / "lock").write_bytes(b"jax-interp: held by \x1b[31m process 1\n")
    with (tmp_path / "lock").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert holder_of(tmp_path / "lock") == "which left no note of itself"


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_has_the_name_of_a_lock_is_left_alone(tmp_path, kind):
    path, mine = tmp_path / "lock", tmp_path / "mine"
    mine.write_text("mine")
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(mine)
    with pytest.raises(UsageError, match="lock: this name is needed while writing; move what is there"), held(path):
        pass
    assert mine.read_text() == "mine"
    assert path.is_dir() or path.read_text() == "mine"


def test_a_folder_that_cannot_be_written_to(tmp_path):
    with pytest.raises(FileNotFoundError), held(tmp_path / "none" / "lock"):
        pass


def test_a_lock_file_that_its_holder_removes_meanwhile_is_made_anew(tmp_path, monkeypatch):
    """Opened before the holder removed it, locked after: nobody else would see that lock."""
    path, opened = tmp_path / "lock", []
    real = lock._open

    def open_and_lose(path):
        handle, was_left = real(path)
        if not opened:
            path.unlink()
        opened.append(handle)
        return handle, was_left

    monkeypatch.setattr(lock, "_open", open_and_lose)
    with held(path):
        assert len(opened) == 2
        assert holder_of(path)


def test_a_look_in_passing_keeps_nobody_out(tmp_path):
    """`holder_of` locks for a moment, which a process that wants the lock waits out."""
    (tmp_path / "lock").touch()
    code = (
        "import fcntl, sys, time\nfile = open(sys.argv[1])\nfcntl.flock(file, fcntl.LOCK_SH)\n"
        "print('looks', flush=True)\ntime.sleep(0.05)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE) as looking:
        assert looking.stdout is not None
        looking.stdout.readline()
        with held(tmp_path / "lock"):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    def no_locks(handle, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with held(tmp_path / "lock"), held(tmp_path / "lock"):
        assert holder_of(tmp_path / "lock") is None
        with (tmp_path / "lock").open() as file:
            assert not flock(file.fileno())
    assert list(tmp_path.iterdir()) == []


def test_other_faults_are_not_taken_for_a_lack_of_locks(tmp_path, monkeypatch):
    def broken(handle, operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output error"), held(tmp_path / "lock"):
        pass


def test_a_file_or_folder_with_a_note_beside_it(tmp_path):
    (tmp_path / "folder").mkdir()
    note = tmp_path / "note"

    def hold(stack):
        handle = os.open(tmp_path / "folder", os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, handle)
        stack.enter_context(locked(handle, note, MediaError))

    with ExitStack() as first, ExitStack() as second:
        hold(first)
        with pytest.raises(MediaError, match=ME):
            hold(second)
        assert note.exists()
    assert not note.exists()


def test_without_a_note_the_lock_holds(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with (tmp_path / "data").open("wb") as one, (tmp_path / "data").open("rb") as two:
        with (
            locked(one.fileno(), tmp_path / "mine", MediaError),
            pytest.raises(MediaError, match="no note"),
            locked(two.fileno(), tmp_path / "none" / "note", MediaError),
        ):
            pass
        with locked(two.fileno(), tmp_path / "none" / "note", MediaError):
            pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_the_name_of_a_lock():
    assert lock_path(Path("out/film.mp4")) == Path("out/.film.mp4.lock")
