"""The options for what a command tells while it works."""

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from jax_interp import terminal
from jax_interp.cli.terminal.console import show_log, show_only_warnings


@dataclass(frozen=True)
class ReportOptions:
    """The options for the log and the progress."""

    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print results, warnings and errors only: no progress, no remarks.")
    ] = False
    progress: Annotated[
        Literal["auto", "json"],
        typer.Option(
            help="auto: a bar on a terminal, a line now and then elsewhere. json: for programs, one event a line on"
            " standard output, and everything else as events too."
        ),
    ] = "auto"

    def begin(self) -> None:
        """Show the log, and from now on everything as these options say."""
        show_log()
        terminal.choose(quiet=self.quiet, events=self.progress == "json")
        if self.quiet:
            show_only_warnings()
