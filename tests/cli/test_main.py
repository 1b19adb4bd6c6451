"""Spellings, speed of the trivial answers, and how errors end a run."""

import resource
import subprocess
import sys

import pytest
import typer

from jax_interp import __version__
from jax_interp.cli.main import _repeat_list_options, app
from tests.commands import jax_interp

HEAVY = ("jax", "flax", "orbax", "transformers", "imageio", "av", "numpy")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("--help",),
        ("generate", "--help"),
        ("memory", "--help"),
        ("convert", "--help"),
        ("download", "--help"),
    ],
)
def test_trivial_answers_import_nothing_heavy(arguments):
    code = (
        "import sys; sys.argv = ['jax-interp', *sys.argv[1:]]\n"
        "from jax_interp.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("HEAVY []\n"), done.stdout[-200:]


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_trivial_answers_take_half_a_second(argument):
    def seconds():
        """Processor time of one call: what a user waits for, whatever else the machine is doing."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "jax_interp", argument], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5


def test_version():
    assert jax_interp("--version").output == f"jax-interp {__version__}"


def test_every_command_is_listed():
    output = jax_interp("--help").output
    for command in (
        "download",
        "convert",
        "generate",
        "train",
        "upsample",
        "check",
        "memory",
        "inspect",
        "export",
        "doctor",
    ):
        assert command in output


def test_an_unknown_flag():
    outcome = jax_interp("generate", "--no-such-flag")
    assert outcome.code == 2
    assert "no-such-flag" in outcome.output


def test_list_options_take_several_values():
    lists = {"--input", "--components"}
    args = ["--input", "a", "b", "--seed", "3", "--components", "x", "--input_", "--", "--input", "c"]
    assert _repeat_list_options(args, lists) == [
        "--input", "a", "--input", "b", "--seed", "3", "--components", "x", "--input_", "--", "--input", "c",
    ]  # fmt: skip


COMMANDS = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_every_option_whole_in_a_narrow_terminal(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    words = {word.rstrip(",") for word in jax_interp(command, "--help").output.split()}
    names = {name for param in COMMANDS[command].params for name in (*param.opts, *param.secondary_opts)}
    options = {name for name in names if name.startswith("--")}
    assert options
    assert options - words == set()


def test_help_has_the_headings_of_the_options():
    output = jax_interp("generate", "--help").output
    places = [output.index(f"{name}:") for name in ("Input", "Text", "Sampling", "Guardrails", "Output", "Networks")]
    assert places == sorted(places)
