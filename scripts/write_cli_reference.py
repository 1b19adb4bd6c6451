"""Write docs/cli.md from what `--help` prints, so that the reference cannot differ from the program.

```
python -m scripts.write_cli_reference            # writes it
python -m scripts.write_cli_reference --check    # fails if it is stale
```
"""

import sys
from pathlib import Path

import typer
from typer.testing import CliRunner

from jax_interp.cli.main import app

DOCUMENT = Path(__file__).parents[1] / "docs/cli.md"
COLUMNS = 110

HEAD = """\
# Command line

This page shows what `jax-interp COMMAND --help` prints; `python -m scripts.write_cli_reference` writes it. Options may
be spelled with dashes or with underscores. `generate` knows upstream's options too. [Quickstart](quickstart.md) has
examples and the [exit codes](quickstart.md#what-happens-when-something-goes-wrong).
"""


def reference() -> str:
    """Return the page: one section for each command, in the order in which a user meets them."""
    commands = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    index = "".join(f"| [`{name}`](#{name}) | {_first_line(command.help)} |\n" for name, command in commands.items())
    sections = [f"## {name}\n\n```text\n{_help(name)}```\n" for name in commands]
    return f"{HEAD}\n| command | what it does |\n| --- | --- |\n{index}\n" + "\n".join(sections)


def _first_line(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


def _help(command: str) -> str:
    runner = CliRunner(env={"COLUMNS": str(COLUMNS), "TERMINAL_WIDTH": str(COLUMNS), "NO_COLOR": "1"})
    result = runner.invoke(app, [command, "--help"], prog_name="jax-interp", terminal_width=COLUMNS)
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines()) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        if DOCUMENT.read_text() != reference():
            sys.exit("docs/cli.md is stale; run python -m scripts.write_cli_reference")
    else:
        DOCUMENT.write_text(reference())
