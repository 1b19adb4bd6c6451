"""Nothing prints but `terminal`: read off the source, so that no new place comes to be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRINTS = "jax_interp/terminal.py"
WITH_RICH = {"jax_interp/cli/terminal/console.py", "jax_interp/cli/terminal/progress.py"}
"""Render tables for `terminal` and draw bars on a terminal; both give rich nothing but escaped text."""
ASKS = "jax_interp/cli/terminal/console.py"
"""Has typer ask the user."""

STREAMS = {"sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}
LIBRARY_CALLS = {
    *("typer.echo", "typer.secho", "typer.prompt", "typer.confirm", "typer.style", "typer.launch", "warnings.warn"),
    *("logging.basicConfig", "logging.StreamHandler", "logging.FileHandler", "logging.captureWarnings"),
    *("os.write", "faulthandler.enable", "pprint.pprint"),
}
MODULES = {"traceback", "pprint", "getpass", "curses", "click", "tqdm"}


def modules():
    for folder in ("jax_interp", "convert"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def dotted(node):
    """`a.b.c` of an expression that is one."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "?"


def imports(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def printing(source, name):
    """What in `source`, the file called `name`, prints or could."""
    if name == PRINTS:
        return []
    found = []
    for node in ast.walk(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        for module in imports(node):
            is_rich = module.split(".")[0] == "rich" and not module.startswith("rich.filesize")
            if module.split(".")[0] in MODULES or (is_rich and name not in WITH_RICH) or module in LIBRARY_CALLS:
                found.append(f"{line}: import {module}")
        called = dotted(node.func) if isinstance(node, ast.Call) else ""
        if called in {"print", *LIBRARY_CALLS} and (name, called) != (ASKS, "typer.confirm"):
            found.append(f"{line}: {called}")
        if isinstance(node, ast.Attribute) and dotted(node) in STREAMS and name not in WITH_RICH:
            found.append(f"{node.lineno}: {dotted(node)}")
    return found


@pytest.mark.parametrize("path", list(modules()), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_one_place_prints(path):
    assert printing(path.read_text(), str(path.relative_to(ROOT))) == []


@pytest.mark.parametrize(
    "source",
    [
        "print(1)",
        "import sys\nsys.stderr.write('x')",
        "import sys\nsys.__stderr__.flush()",
        "import typer\ntyper.echo('x')",
        "from typer import echo",
        "import typer\ntyper.confirm('x')",
        "from rich.console import Console",
        "import rich",
        "def f():\n    from rich import print",
        "import traceback",
        "import logging\nlogging.basicConfig()",
        "import logging\nlogging.StreamHandler()",
        "import os\nos.write(2, b'x')",
        "import warnings\nwarnings.warn('x')",
    ],
)
def test_the_rule_can_fail(source):
    assert printing(source, "jax_interp/pipeline/new.py")
    assert not printing(source, PRINTS)


def test_what_prints_nothing_passes():
    source = "from rich.filesize import decimal\nimport logging\nlogging.getLogger('jax_interp').info('x')"
    assert printing(source, "convert/new.py") == []
