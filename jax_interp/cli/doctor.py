"""`jax-interp doctor`: what this machine can do and what to install."""

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from jax_interp.runtime.doctor import Check

COLOURS = {"ok": "green", "warning": "yellow", "missing": "red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what this machine can do, and what to install.

    Exit code 1 if something required is missing.
    """
    # Looking at the machine should not take most of a GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from jax_interp._version import __version__
    from jax_interp.runtime.doctor import examine

    checks = examine()
    if as_json:
        print(json.dumps({"version": __version__, "checks": [dataclasses.asdict(check) for check in checks]}, indent=2))
    else:
        _show(checks)
    if any(check.status == "missing" for check in checks):
        raise typer.Exit(1)


def _show(checks: "list[Check]") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "status", "found", "what to do")
    for column in table.columns:
        column.overflow = "fold"
    for check in checks:
        colour = COLOURS[check.status]
        status = f"[{colour}]{check.status}[/{colour}]"
        table.add_row(check.name, status, escape(check.value), escape(check.advice))
    Console().print(table)
