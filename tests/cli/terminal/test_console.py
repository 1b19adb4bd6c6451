"""Tables and the log: any text stays text, on a terminal and off it."""

import io
import logging
import sys

import pytest

from jax_interp.cli.terminal import console
from jax_interp.cli.terminal.console import Coloured, show_log, show_table, show_table_on_stderr

ROWS = [("b/x[/one].mp4", "[red]\x1b[31m", Coloured("ok", "green")), ("a\nb", ["one", "two\x07"], "x" * 300)]


class Terminal(io.StringIO):
    """Standard output as a terminal has it."""

    encoding = "utf-8"

    def isatty(self):
        return True


def shown_on_terminal(monkeypatch, **environment):
    """The table of `ROWS` as a terminal gets it."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ({"TERM": "xterm-256color", "COLUMNS": "80"} | environment).items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        show_table(ROWS, ("file", "what", "state"))
    assert "b/x[/one].mp4" in stream.getvalue()
    return stream.getvalue()


def test_off_a_terminal_a_row_is_a_line(capsys):
    show_table(ROWS, ("file", "what", "state"))
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].split() == ["file", "what", "state"]
    assert lines[1].split() == ["b/x[/one].mp4", r"[red]\x1b[31m", "ok"]
    assert lines[2].split() == [r"a\nb", "one", "x" * 300]
    assert lines[3].split() == [r"two\x07"]
    assert len(lines) == 4
    assert not any(line.endswith(" ") for line in lines)


def test_a_terminal_gets_a_frame_and_colours_but_none_of_others(monkeypatch):
    shown = shown_on_terminal(monkeypatch)
    assert "┃" in shown
    assert "\x1b[32mok" in shown
    assert "\x1b[31m" not in shown
    assert r"\x1b[31m" in shown


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colours_where_none_are_wanted(monkeypatch, name, value):
    assert "\x1b" not in shown_on_terminal(monkeypatch, **{name: value})


def test_forced_colours_do_not_reach_a_file(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    show_table(ROWS, ("file", "what", "state"))
    assert "\x1b" not in capsys.readouterr().out


def test_a_table_of_what_will_be_done_is_no_result(capsys):
    show_table_on_stderr([("a", "1")], ("file", "size"), numbers=("size",))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split() for line in err.splitlines()] == [["file", "size"], ["a", "1"]]


def test_the_log_is_text_in_lines_of_any_length(capsys):
    show_log()
    logger = logging.getLogger("jax_interp")
    logger.warning("%s: [/one] [red]x[/red] %s", "b/x[/one].mp4", "y" * 500)
    logger.info("two\nlines\x1b[2J")
    logger.debug("not shown")
    assert capsys.readouterr().err == (
        f"WARNING  b/x[/one].mp4: [/one] [red]x[/red] {'y' * 500}\nINFO     two\n  lines\\x1b[2J\n"
    )


def test_a_message_that_cannot_be_put_together_is_shown_as_it_is(capsys):
    show_log()
    logging.getLogger("jax_interp").warning("%d pairs", "three\x1b")
    assert capsys.readouterr().err == "WARNING  %d pairs\n"


def test_warnings_of_libraries_are_escaped_too(capsys, monkeypatch):
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    show_log()
    handler = logging.lastResort
    assert isinstance(handler, console.LogHandler)
    handler.handle(logging.LogRecord("other", logging.WARNING, "", 0, "name \x1b[2J", (), None))
    assert capsys.readouterr().err == "WARNING  name \\x1b[2J\n"
