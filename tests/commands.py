"""The command line run inside the test process, as `main` runs it: exit code and everything printed."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from jax_interp.cli.main import main


@dataclass(frozen=True)
class Outcome:
    code: int
    output: str


def jax_interp(*arguments: object) -> Outcome:
    """Run `jax-interp` with `arguments`."""
    out = io.StringIO()
    with patch.object(sys, "argv", ["jax-interp", *map(str, arguments)]), redirect_stdout(out), redirect_stderr(out):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    return Outcome(code, " ".join(out.getvalue().split()))
