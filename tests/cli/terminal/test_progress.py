"""How far a job is: a bar on a terminal, few plain lines elsewhere."""

import io
import json
import sys

import pytest

from jax_interp import terminal
from jax_interp.cli.terminal.progress import FIRST_LINE, NEXT_LINES, Events, Lines, Task, byte_progress, progress

NAME = "[/one]\x1b[2J.mp4"


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


def test_lines_come_at_a_sensible_pace(capsys):
    clock = Clock()
    task = Task(NAME, 1000, Lines(in_bytes=False, clock=clock))
    for done in range(1001):  # ten a second
        clock.seconds = done / 10
        task.update(done)
    lines = capsys.readouterr().err.splitlines()
    expected = [int(10 * (FIRST_LINE + NEXT_LINES * index)) for index in range(3)]
    left = ["0:01:30", "0:01:00", "0:00:30"]
    assert lines == [
        rf"[/one]\x1b[2J.mp4: {done} of 1000 ({done // 10} %), {time} left"
        for done, time in zip(expected, left, strict=True)
    ]


def test_a_line_is_never_wrapped(capsys):
    clock = Clock()
    task = Task("x" * 500, 1000, Lines(in_bytes=False, clock=clock))
    task.update(100)
    clock.seconds = FIRST_LINE
    task.update(200)
    assert capsys.readouterr().err == f"{'x' * 500}: 200 of 1000 (20 %), 0:01:20 left\n"


def test_events_tell_programs_how_far_it_is(capsys):
    clock = Clock()
    task = Task(NAME, 100, Events(in_bytes=False, clock=clock))
    for done in range(40, 101):  # ten a second, after an earlier run that did 40
        clock.seconds = (done - 40) / 10
        task.update(done)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["done"] for event in events] == [*range(40, 100, 5), 100]
    assert {event["label"] for event in events} == {r"[/one]\x1b[2J.mp4"}
    assert events[0]["remaining_seconds"] is None
    for event in events[1:]:
        assert event["elapsed_seconds"] == pytest.approx((event["done"] - 40) / 10)
        assert event["remaining_seconds"] == pytest.approx((100 - event["done"]) / 10)
        assert (event["version"], event["event"], event["total"], event["unit"]) == (1, "progress", 100, "steps")


def test_bytes_have_units_and_a_total_may_be_unknown(capsys):
    clock = Clock()
    task = Task("a", None, Lines(in_bytes=True, clock=clock))
    clock.seconds = FIRST_LINE
    task.advance(1_500_000)
    clock.seconds += NEXT_LINES
    task.advance(500_000, "b\nc")
    assert capsys.readouterr().err == "a: 1.5 MB\nb\\nc: 2.0 MB\n"


def test_a_short_job_says_nothing_in_a_file(capsys):
    with progress(NAME, 3) as task:
        for done in range(4):
            task.update(done)
    with byte_progress(NAME, 10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")


def test_a_bar_shows_the_name_as_text_and_vanishes(monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    with progress(NAME, 3) as task:
        task.update(1)
        terminal.tell(f"meanwhile {NAME}")
        task.update(2)
    assert sys.stderr is stream
    shown = stream.getvalue()
    assert r"[/one]\x1b[2J.mp4" in shown
    assert NAME not in shown
    assert r"meanwhile [/one]\x1b[2J.mp4" in shown


@pytest.mark.parametrize("is_tty", [True, False])
def test_a_dumb_terminal_and_a_quiet_process_get_no_bar(monkeypatch, is_tty):
    stream = io.StringIO()
    stream.isatty = lambda: is_tty
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "dumb")
    with progress(NAME, 3) as task:
        task.update(1)
    assert stream.getvalue() == ""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(terminal, "_quiet", True)
    with progress(NAME, 3) as task:
        task.update(1)
    assert stream.getvalue() == ""
