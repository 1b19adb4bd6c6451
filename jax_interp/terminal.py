"""The only module that prints. What it shows is plain text, which cannot colour, move or forge what is around it.

For programs it shows events instead (`choose`): every line of standard output is then a JSON object.

Names of files and tensors, prompts and answers of servers come from others. A terminal would obey the escape sequences
in them, and a reader be misled by characters that change the direction of writing or are not seen at all; so each of
these is shown by its code, as \\x1b.
"""

import json
import os
import re
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from jax_interp.errors import TRACEBACK, Ended, JaxInterpError, explain

_NOT_TEXT = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f"  # control characters but the end of a line, escape sequences begin with one
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # the direction of writing
    "\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # not to be seen
    "\ud800-\udfff]"  # halves of pairs, as which Python has the bytes of a file name that are not UTF-8
)

EVENTS_VERSION = 1
"""The version of the events' fields. Fields may be added under the same version; none is removed or changes."""

_quiet = False
_events = False


class ReaderGone(SystemExit):
    """The reader of standard output has closed it, as `head` does after ten lines; the program ends silently."""

    def __init__(self) -> None:
        super().__init__(1)


def visible(text: str) -> str:
    """Return `text` with every character that is neither visible, a space nor an end of line shown by its code."""
    return _NOT_TEXT.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return `text` as `visible` does, with ends of lines escaped too, for text from others within a line."""
    return visible(text).replace("\n", "\\n")


def choose(*, quiet: bool, events: bool) -> None:
    """Set what is printed: with `quiet` only results and errors, with `events` each as a JSON object (`emit`)."""
    global _quiet, _events
    _quiet, _events = quiet, events


def emit(event: str, **fields: Any) -> None:
    """Print an event as one line of JSON on standard output; raises as `show` does.

    Its `event` is "result", "message", "log", "progress" or "error"; docs/outputs.md describes the fields of each.
    """
    _print_result(json.dumps({"version": EVENTS_VERSION, "event": event, **fields}).replace("\x7f", "\\u007f") + "\n")


def emit_if_possible(event: str, **fields: Any) -> None:
    """Print an event as `emit` does, if somebody reads it."""
    with suppress(JaxInterpError, ReaderGone):
        emit(event, **fields)


def shows_events() -> bool:
    """Tell whether events were chosen."""
    return _events


def show(line: object = "", **facts: Any) -> None:
    """Print a line of results on standard output; `facts` are JSON values that only the event has.

    Raises:
        ReaderGone: the reader has closed standard output.
        JaxInterpError: it cannot be written, to a full disk for example.
    """
    if _events:
        emit("result", text=one_line(str(line)), **facts)
    else:
        _print_result(one_line(str(line)) + "\n")


def show_escaped(text: str) -> None:
    """Print text that is already `visible`, with its lines and styles, on standard output; raises as `show` does."""
    if _events:
        emit("result", text=text.rstrip("\n"))
    else:
        _print_result(text)


def _print_result(text: str) -> None:
    try:
        _print(sys.stdout, text)
    except BrokenPipeError:
        _give_up(sys.stdout)
        raise ReaderGone from None
    except OSError as error:
        _give_up(sys.stdout)
        raise JaxInterpError(f"standard output: cannot be written ({error.strerror})") from None


def show_json(value: Any) -> None:
    """Print a value for programs to read, on standard output; raises as `show` does."""
    if _events:
        emit("result", value=value)
        return
    text = json.dumps(value, indent=2).replace("\x7f", "\\u007f")  # the one control character that JSON leaves as it is
    _print_result(text + "\n")


def tell(text: object) -> None:
    """Print a message about progress on standard error; lines after the first are indented, so that none looks new."""
    if not _quiet and _events:
        emit_if_possible("message", text=visible(str(text)))
    elif not _quiet:
        _complain(str(text))


def tell_escaped(text: str) -> None:
    """Print as `tell` does text that is already `visible`, with its lines and styles."""
    if not _quiet and _events:
        emit_if_possible("message", text=text.rstrip("\n"))
    elif not _quiet:
        _print_if_possible(text)


def log(level: str, text: str) -> None:
    """Print a line of the log as `tell` does, even after `be_quiet`; `level` is as "WARNING"."""
    if _events:
        emit_if_possible("log", level=level.lower(), text=visible(text))
    else:
        _complain(f"{level:8} {text}")


def show_failure(error: BaseException) -> int:
    """Print, on standard error, why the program ends; returns its exit code.

    With the environment variable `TRACEBACK` it also shows where `error` was raised.
    """
    message, code = explain(error)
    if _events:
        emit_if_possible("error", text=visible(message), exit_code=code)
    if os.environ.get(TRACEBACK, "0") not in ("", "0"):
        _complain("".join(traceback.format_exception(error)).rstrip())
    _complain(message if isinstance(error, KeyboardInterrupt | Ended) else f"error: {message}")
    return code


def be_quiet() -> None:
    """Print only results and errors from now on; of several processes only the first prints more."""
    global _quiet
    _quiet = True


def is_quiet() -> bool:
    """Tell whether `be_quiet` was called."""
    return _quiet


def end_now(message: str, code: int) -> NoReturn:
    """Print why the program ends, and end it at once, whatever its threads are doing."""
    if sys.__stderr__ is not None:
        with suppress(OSError, ValueError):
            os.write(sys.__stderr__.fileno(), f"\nerror: {_paragraph(message)}\n".encode())
    os._exit(code)


def flush() -> None:
    """Flush standard output and standard error."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether `stream` is a terminal that can do more than print lines, and nobody asked for events."""
    return (
        not _events
        and stream is not None
        and stream.isatty()
        and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    )


def _complain(text: str) -> None:
    _print_if_possible(_paragraph(text) + "\n")


def _paragraph(text: str) -> str:
    return visible(text).replace("\n", "\n  ")


def _print_if_possible(text: str) -> None:
    """Print on standard error if somebody reads it; nobody reading is no reason to stop working."""
    with suppress(OSError, ValueError):
        _print(sys.stderr, text)


def _print(stream: TextIO | None, text: str) -> None:
    if stream is None:  # closed before the program began
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def _give_up(stream: TextIO) -> None:
    """Send what is left in memory, which Python would try to write once more at its end, nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
