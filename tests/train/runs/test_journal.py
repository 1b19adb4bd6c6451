"""The lines that a run writes, and what an interrupted one leaves of them."""

import json
import os
import struct
from pathlib import Path

import pytest

from jax_interp.errors import JaxInterpError
from jax_interp.train.runs import journal as journal_module
from jax_interp.train.runs.journal import Journal


def test_lines_and_events(tmp_path):
    journal = Journal(tmp_path, 0)
    for step in (1, 2, 3):
        journal.note(step, {"loss": step / 2})
    journal.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 1.5}]
    (file,) = (tmp_path / "tensorboard").iterdir()
    events = list(events_in(file))
    assert [(event.file_version, event.step) for event in events[:2]] == [("brain.Event:2", 0), ("", 1)]
    assert [(event.step, event.summary.value[0].simple_value) for event in events[2:]] == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert events[2].summary.value[0].tag == "loss"


def events_in(file):
    """The events of a TFRecord file: length and its checksum, the bytes and their checksum."""
    from tensorboardX.proto.event_pb2 import Event  # type: ignore[attr-defined]

    content, at = file.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        yield Event.FromString(content[at + 12 : at + 12 + length])
        at += 16 + length


def test_a_full_disk_ends_the_run_and_not_in_a_wait(tmp_path, monkeypatch, caplog):
    """tensorboardX's own writer waits forever for its thread, which the full disk has ended."""
    monkeypatch.setattr(journal_module, "_FLUSH_SECONDS", 0.0)
    journal = Journal(tmp_path, 0)
    journal.note(1, {"loss": 0.5})
    (file,) = (tmp_path / "tensorboard").iterdir()
    fill(file)
    for step in range(2, 30):
        journal.note(step, {"loss": 0.5})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text
    journal.path.unlink()
    journal.path.symlink_to("/dev/full")
    with pytest.raises(JaxInterpError, match=r"metrics\.jsonl: cannot be written \(No space left .* --resume"):
        journal.note(30, {"loss": 0.5})
    journal.close()


def fill(file):
    """Let what this process writes to the open `file` meet a full disk."""
    (handle,) = (path.name for path in Path("/proc/self/fd").iterdir() if path.exists() and path.samefile(file))
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, int(handle))
    os.close(full)


def test_what_comes_again_is_dropped_and_cut_lines_too(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1}\n{"step": 2, "loss": 2}\n{"step": 3, "lo')
    Journal(tmp_path, 1).close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 1}\n'
