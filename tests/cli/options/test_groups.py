"""Groups of options on a small command: where they stand, what the help says of them, and what arrives."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from jax_interp.cli.options.groups import Under, with_options
from jax_interp.cli.options.networks import NetworkOptions
from jax_interp.components import TABLE


@dataclass(frozen=True)
class SizeOptions:
    height: Annotated[int, typer.Option(help="Height.")] = 704
    width: Annotated[int, typer.Option(help="Width.")] = 1280
    unused: Annotated[str, typer.Option(help="Of other commands.")] = "as it is"


@dataclass(frozen=True)
class PlaceOptions:
    folder: Annotated[Path, typer.Option(help="A folder.")]
    again: Annotated[bool, typer.Option("--again", help="Once more.", rich_help_panel="Its own")] = False


@dataclass(frozen=True)
class Both:
    size: SizeOptions
    place: PlaceOptions


_SIZE = Under("Sizes", only=("width", "height"), help={"height": "How high."}, defaults={"width": 96})
_NETWORKS = Under("Networks", only=("text_encoder_dir", "checkpoint_dir", "face_blur_dir"))


def made(command):
    """An application of one command, and what it was called with."""
    calls, app = [], typer.Typer()
    app.command()(command(calls))
    return app, calls


@pytest.fixture
def sample():
    def command(calls):
        @with_options
        def sample(
            *,
            first: Annotated[int, typer.Option(help="A number.")] = 1,
            size: Annotated[SizeOptions, _SIZE],
            networks: Annotated[NetworkOptions, _NETWORKS],
            last: Annotated[str, typer.Option(help="A word.")] = "x",
        ) -> None:
            """Say what was given."""
            calls.append((first, size, networks, last))

        return sample

    return made(command)


def params(app) -> list[Any]:
    return [param for param in typer.main.get_command(app).params if "completion" not in (param.name or "")]


def test_every_group_arrives_as_its_value(sample):
    app, calls = sample
    CliRunner().invoke(app, ["--face-blur-dir", "mine", "--first", "2", "--height", "64"], catch_exceptions=False)
    CliRunner().invoke(app, [], catch_exceptions=False)
    (first, size, networks, last), (_, usual, _, _) = calls
    assert (first, last) == (2, "x")
    assert size == SizeOptions(64, 96, "as it is")
    assert usual == SizeOptions(704, 96, "as it is")
    assert networks.folders == dict.fromkeys(TABLE) | {"face_blur": "mine"}
    assert (networks.checkpoint_dir, networks.lora) == (Path("converted"), None)


def test_options_stand_where_the_group_stands_in_the_order_of_the_command(sample):
    found = params(sample[0])
    assert [param.name for param in found] == [
        *("first", "width", "height", "text_encoder_dir", "checkpoint_dir", "face_blur_dir", "last"),
    ]
    assert [param.rich_help_panel for param in found] == [None, *["Sizes"] * 2, *["Networks"] * 3, None]


def test_a_command_may_have_words_of_its_own(sample):
    app, _ = sample
    help_of = {param.name: param.help for param in params(app)}
    assert (help_of["height"], help_of["width"]) == ("How high.", "Width.")
    assert help_of["face_blur_dir"] == "Which face detector, if several are converted."


def test_options_that_a_command_leaves_out_are_unknown_to_it(sample):
    app, calls = sample
    for flag in ("--unused", "--tokenizer-dir", "--lora"):
        assert CliRunner().invoke(app, [flag, "mine"]).exit_code == 2
    assert not calls


def test_what_a_command_says_of_a_group_stays_there(sample):
    def command(calls):
        @with_options
        def plain(size: SizeOptions) -> None:
            calls.append(size)

        return plain

    app, calls = made(command)
    CliRunner().invoke(app, [], catch_exceptions=False)
    assert calls == [SizeOptions()]
    height, width, _ = params(app)
    assert (height.help, height.rich_help_panel, width.default) == ("Height.", None, 1280)


def test_groups_within_a_group_are_chosen_from_together():
    def command(calls):
        @with_options
        def nested(both: Annotated[Both, Under("Here", only=("again", "height", "folder"))]) -> None:
            calls.append(both)

        return nested

    app, calls = made(command)
    assert [param.name for param in params(app)] == ["again", "height", "folder"]
    assert [param.rich_help_panel for param in params(app)] == ["Its own", "Here", "Here"]
    assert CliRunner().invoke(app, []).exit_code == 2  # a folder is required
    CliRunner().invoke(app, ["--folder", "f", "--again"], catch_exceptions=False)
    assert calls == [Both(SizeOptions(), PlaceOptions(Path("f"), True))]
