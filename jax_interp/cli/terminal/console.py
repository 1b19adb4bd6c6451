"""The output of the commands beside single lines: the log, tables and questions. `terminal` prints everything."""

import io
import logging
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TextIO, TypeAlias

from jax_interp import terminal
from jax_interp.terminal import is_terminal, one_line

if TYPE_CHECKING:
    from rich.text import Text

_UNBOUNDED = 1 << 20
"""The width, in columns, of output that is no terminal, where nothing is folded."""


class Coloured(NamedTuple):
    """A line of a cell that has a colour where the output supports colours."""

    line: str
    colour: str


Cell: TypeAlias = str | Coloured | Sequence[str]
"""The contents of a cell, for example `"3.1"`, `Coloured("ok", "green")` or a list of lines. Text is never taken for
markup."""


class LogHandler(logging.Handler):
    """A handler that prints the log; the values in a line may be any text."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = self.format(record)
        except Exception:  # a message that cannot be formatted must not end the run
            message = str(record.msg)
        terminal.log(record.levelname, message)


def show_log(level: int = logging.INFO) -> None:
    """Print the package's log lines from `level` on, and the warnings of libraries that print theirs nowhere."""
    handler = LogHandler()
    logger = logging.getLogger("jax_interp")
    logger.handlers = [handler]
    logger.propagate = False  # JAX's libraries give the root logger a handler, which would print every line again
    logger.setLevel(level)
    logging.lastResort = handler


def show_only_warnings() -> None:
    """Print results, warnings and errors only from now on."""
    logging.getLogger("jax_interp").setLevel(logging.WARNING)
    terminal.be_quiet()


def be_quiet() -> None:
    """Show results and errors only, because of several processes only the first one reports progress."""
    logging.getLogger("jax_interp").setLevel(logging.ERROR)
    terminal.be_quiet()


def show_table(
    rows: Iterable[Sequence[Cell]], names: Sequence[str] = (), *, numbers: Collection[str] = (), framed: bool = True
) -> None:
    """Print a table on standard output, with the columns' `names` above if there are any.

    `numbers` are the columns that are aligned to the right. On a terminal, long cells are folded to its width;
    elsewhere rows have their full length and no frame.
    """
    terminal.show_escaped(_table(rows, names, numbers, framed, sys.stdout))


def show_table_on_stderr(
    rows: Iterable[Sequence[Cell]], names: Sequence[str] = (), *, numbers: Collection[str] = ()
) -> None:
    """Print a table on standard error, as `show_table` does on standard output: for what a command is about to do."""
    terminal.tell_escaped(_table(rows, names, numbers, True, sys.stderr))


def confirm(question: str) -> bool:
    """Ask whether to continue, and return the answer; Enter means yes."""
    import typer

    return typer.confirm(one_line(question), default=True)


def _table(
    rows: Iterable[Sequence[Cell]],
    names: Sequence[str],
    numbers: Collection[str],
    framed: bool,
    stream: TextIO | None,
) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    there, rows = is_terminal(stream), list(rows)
    framed = framed and there and (getattr(stream, "encoding", None) or "").lower().startswith("utf")
    table = Table(
        box=box.HEAVY_HEAD if framed else None,
        show_header=bool(names),
        padding=(0, 1),
        collapse_padding=not framed,
        pad_edge=framed,
    )
    for name in names or [""] * max(map(len, rows), default=0):
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_text, row))
    console = Console(
        file=io.StringIO(),
        width=shutil.get_terminal_size().columns if there else _UNBOUNDED,
        force_terminal=there,
        color_system="auto" if there and not os.environ.get("NO_COLOR") else None,
        legacy_windows=False,
    )
    with console.capture() as capture:
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().rstrip("\n").split("\n"))


def _text(cell: Cell) -> "Text":
    from rich.text import Text

    if isinstance(cell, Coloured):
        return Text(one_line(cell.line), cell.colour)
    return Text("\n".join(map(one_line, [cell] if isinstance(cell, str) else cell)))
