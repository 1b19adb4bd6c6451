"""What is printed is text: it neither colours nor moves nor hides nor forges anything."""

import errno
import io
import json
import subprocess
import sys

import pytest

from jax_interp import terminal
from jax_interp.errors import CheckpointError, JaxInterpError
from jax_interp.terminal import ReaderGone, one_line, visible

HOSTILE = {
    "\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x9b2J": r"\x9b2J",
    "a\rb\tc\x00\x7f": r"a\rb\tc\x00\x7f",
    "\u202egpj.exe\u2066": r"\u202egpj.exe\u2066",
    "\udcff": r"\udcff",
    "a\u200bb\ufeff\u2028": r"a\u200bb\ufeff\u2028",
    "\U000e0041": r"\U000e0041",
    "[/one] [red]x[/red] :smile:": "[/one] [red]x[/red] :smile:",
    "Grüße, 日本語 👩‍👧 نص ×": "Grüße, 日本語 👩‍👧 نص ×",
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items(), ids=map(ascii, HOSTILE.values()))
def test_what_is_no_character_is_shown_by_its_code(text, shown):
    assert visible(text) == shown
    assert visible(shown) == shown
    assert one_line(f"{text}\n") == f"{shown}\\n"


def test_every_control_character_is_caught():
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    kept = set(visible(everything).replace("\n", ""))
    assert not {char for char in kept if ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000}
    assert not kept & set("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert visible("a\nb") == "a\nb"


def test_results_go_out_and_everything_else_beside(capsys):
    terminal.show("a\nb\x1b")
    terminal.tell("note\nforged: \x1b")
    assert terminal.show_failure(CheckpointError("x.pt: [/bad]\nand [red]\x1b")) == 3
    out, err = capsys.readouterr()
    assert out == "a\\nb\\x1b\n"
    assert err == "note\n  forged: \\x1b\nerror: x.pt: [/bad]\n  and [red]\\x1b\n"


def test_json_stays_json(capsys):
    value = {"a": ["\x1b\x7f\u202e\udcff×", None, 1.5]}
    terminal.show_json(value)
    text = capsys.readouterr().out
    assert visible(text) == text
    assert json.loads(text) == value


def test_a_stream_that_cannot_say_it_gets_codes(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.show("64×96 é")
    assert stream.buffer.getvalue() == b"64\\xd796 \\xe9\n"


class Broken(io.StringIO):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, "no")


def test_a_reader_that_has_gone_ends_the_program_without_a_word(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Broken(errno.EPIPE))
    with pytest.raises(ReaderGone) as ended:
        terminal.show("x")
    assert ended.value.code == 1
    monkeypatch.setattr(sys, "stdout", Broken(errno.ENOSPC))
    with pytest.raises(JaxInterpError, match="standard output: cannot be written"):
        terminal.show("x")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stream", [Broken(errno.EPIPE), None])
def test_nobody_who_listens_is_no_reason_to_stop(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    terminal.tell("x")
    assert terminal.show_failure(KeyboardInterrupt()) == 130
    monkeypatch.setattr(sys, "stdout", None)
    terminal.show("x")


def test_quiet_processes_say_only_why_they_end(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "_quiet", False)
    terminal.be_quiet()
    terminal.tell("x")
    terminal.log("ERROR", "y")
    terminal.show_failure(JaxInterpError("z"))
    assert capsys.readouterr().err == "ERROR    y\nerror: z\n"


def test_programs_get_events_of_one_line_each(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "_events", True)
    monkeypatch.setattr(terminal, "_quiet", False)
    terminal.show("a\nb\x1b", frames=3)
    terminal.show_json({"x": [1]})
    terminal.show_escaped("row 1\nrow 2\n")
    terminal.tell("note\x7f")
    terminal.tell_escaped("table\n")
    terminal.log("WARNING", "careful")
    assert terminal.show_failure(CheckpointError("x.pt: \x1b")) == 3
    out, err = capsys.readouterr()
    assert err == "error: x.pt: \\x1b\n"
    events = [json.loads(line) for line in out.splitlines()]
    assert {event.pop("version") for event in events} == {1}
    assert events == [
        {"event": "result", "text": "a\\nb\\x1b", "frames": 3},
        {"event": "result", "value": {"x": [1]}},
        {"event": "result", "text": "row 1\nrow 2"},
        {"event": "message", "text": "note\\x7f"},
        {"event": "message", "text": "table"},
        {"event": "log", "level": "warning", "text": "careful"},
        {"event": "error", "text": "x.pt: \\x1b", "exit_code": 3},
    ]


def test_events_that_nobody_reads_do_not_stop_work_and_results_do(monkeypatch):
    class Broken(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        def fileno(self):
            raise io.UnsupportedOperation

    monkeypatch.setattr(terminal, "_events", True)
    monkeypatch.setattr(terminal, "_quiet", False)
    monkeypatch.setattr(sys, "stdout", Broken())
    terminal.tell("x")
    with pytest.raises(JaxInterpError, match="standard output: cannot be written"):
        terminal.show("x")


def test_a_traceback_is_shown_to_who_asks(monkeypatch, capsys):
    def fail():
        raise RuntimeError("bad \x1b[2J")

    with pytest.raises(RuntimeError) as raised:
        fail()
    caught = raised.value
    assert terminal.show_failure(caught) == 1
    assert capsys.readouterr().err == (
        "error: unexpected RuntimeError: bad \\x1b[2J; JAX_INTERP_TRACEBACK=1 in the environment shows where it was"
        " raised\n"
    )
    monkeypatch.setenv("JAX_INTERP_TRACEBACK", "1")
    terminal.show_failure(caught)
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert "in fail" in shown
    assert "\x1b" not in shown
    monkeypatch.setenv("JAX_INTERP_TRACEBACK", "0")
    terminal.show_failure(caught)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("is_tty", "term", "expected"),
    [(True, "xterm", True), (True, "dumb", False), (True, None, False), (False, "xterm", False)],
)
def test_what_counts_as_a_terminal(monkeypatch, is_tty, term, expected):
    stream = io.StringIO()
    stream.isatty = lambda: is_tty
    if term is None:
        monkeypatch.delenv("TERM", raising=False)
    else:
        monkeypatch.setenv("TERM", term)
    assert terminal.is_terminal(stream) is expected
    assert not terminal.is_terminal(None)


def test_last_words_are_text_too():
    code = "from jax_interp.terminal import end_now; end_now('a\\x1b[2J\\nb', 7)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "\nerror: a\\x1b[2J\n  b\n")
