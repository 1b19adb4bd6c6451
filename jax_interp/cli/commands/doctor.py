"""The command `jax-interp doctor`, which says what this machine can do and what to install."""

import dataclasses
import os
from typing import Annotated

import typer

from jax_interp._version import __version__
from jax_interp.cli.terminal.console import Coloured, show_table
from jax_interp.runtime import doctor as machine
from jax_interp.terminal import show_json

COLOURS = {"ok": "green", "warning": "yellow", "missing": "red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what this machine can do, and what to install.

    Exit code 1 if something required is missing.
    """
    # Examining the machine should not reserve most of a GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    checks = machine.examine()
    if as_json:
        show_json({"version": __version__, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        _show(checks)
    if any(check.status == "missing" for check in checks):
        raise typer.Exit(1)


def _show(checks: list[machine.Check]) -> None:
    rows = [(check.name, Coloured(check.status, COLOURS[check.status]), check.value, check.advice) for check in checks]
    show_table(rows, ("", "status", "found", "what to do"))
