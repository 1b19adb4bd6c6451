"""The command `jax-interp`: its subcommands, the spellings of options, and the end of a run by an error."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from jax_interp import terminal
from jax_interp._version import __version__
from jax_interp.cli.commands.app import app as serve_app
from jax_interp.cli.commands.check import check
from jax_interp.cli.commands.compare import compare
from jax_interp.cli.commands.convert import convert
from jax_interp.cli.commands.doctor import doctor
from jax_interp.cli.commands.download import download
from jax_interp.cli.commands.evaluate import evaluate
from jax_interp.cli.commands.export import export
from jax_interp.cli.commands.generate import generate
from jax_interp.cli.commands.inspect import inspect
from jax_interp.cli.commands.memory import memory
from jax_interp.cli.commands.parity import parity
from jax_interp.cli.commands.train import train
from jax_interp.cli.commands.upsample import upsample
from jax_interp.cli.commands.video2world import video2world
from jax_interp.cli.terminal import signals
from jax_interp.cli.terminal.failures import explained
from jax_interp.cli.values import check_values
from jax_interp.errors import JaxInterpError, UsageError
from jax_interp.terminal import visible


class Command(TyperCommand):
    """A command whose list options take several values at once, as in `--input a.png b.png`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        lists = {name for param in self.params if getattr(param, "multiple", False) for name in param.opts}
        args = _repeat_list_options(args, lists)
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))  # strings, not yet converted to paths
        check_values(given, {param.name: param.opts[0] for param in self.get_params(ctx)})
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options under the headings of their panels; unlike rich's tables, it never cuts a name short."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is not None:
                panels.setdefault(getattr(param, "rich_help_panel", None) or "Options", []).append(record)
        for heading, records in panels.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class Group(TyperGroup):
    """The group of subcommands, in the order in which a user meets them; without a subcommand it prints the help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args or ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        terminal.tell_escaped(visible(ctx.get_help()) + "\n")
        raise typer.Exit(UsageError.exit_code)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


def _repeat_list_options(args: list[str], lists: set[str]) -> list[str]:
    """Rewrite `--input a b` as `--input a --input b`, for the options in `lists`."""
    result: list[str] = []
    current: str | None = None
    fresh = False
    for i, arg in enumerate(args):
        if arg == "--":
            return result + args[i:]
        if arg.startswith("--") or (arg.startswith("-") and len(arg) == 2):
            name = arg.replace("_", "-")
            current, fresh = (arg, True) if name in lists else (None, False)
            result.append(arg)
        elif current is not None and not fresh:
            result += [current, arg]
        else:
            fresh = False
            result.append(arg)
    return result


# Upstream spells its options with underscores; both spellings work everywhere.
_SETTINGS = {
    "token_normalize_func": lambda token: token.replace("_", "-"),
    "help_option_names": ["--help", "-h"],
    "max_content_width": 120,
}

app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
    help="Generate the frames between frames: Cosmos-Predict1 WorldInterpolator in JAX.",
)
_COMMANDS = (
    *(download, convert, generate, video2world, serve_app, compare, evaluate, train, upsample),
    *(check, memory, inspect, export, parity, doctor),
)
for function in _COMMANDS:
    app.command(cls=Command, context_settings=_SETTINGS)(function)


def _show_version(wanted: bool) -> None:
    if wanted:
        terminal.show(f"jax-interp {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Generate the frames between frames: Cosmos-Predict1 WorldInterpolator in JAX."""


def main() -> None:
    """Run the command line; every exception ends it with a message and an exit code."""
    with explained():
        terminal.choose(quiet=False, events=False)
        try:
            with signals.raised():
                code = app(standalone_mode=False)
        except typer.Abort:
            raise JaxInterpError("no answer; pass --yes to go on without being asked") from None
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            raise _wrong_use(error) from None
        sys.exit(code or 0)


def _wrong_use(error: Any) -> JaxInterpError:
    """Convert typer's error about the command line into one of ours, because typer prints the typed text unescaped."""
    # Typer's library for values begins its messages so.
    message = error.format_message().replace("\n\t", " ").replace(": Value error, ", ": ")
    if (context := getattr(error, "ctx", None)) is not None:
        message += f" (`{context.command_path} --help` shows what there is)"
    ours = JaxInterpError(message)
    ours.exit_code = error.exit_code
    return ours
