"""The options of networks' folders, on a command of two parameters."""

from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from jax_interp.cli.options.networks import NONE_GIVEN, NetworkFolders, which_converted, with_network_folders


@pytest.fixture
def command():
    """A command with the options of two networks, and what it was called with."""
    calls, app = [], typer.Typer()

    @app.command()
    @with_network_folders(which_converted("Networks"), ["text_encoder", "face_blur"])
    def sample(
        first: Annotated[int, typer.Option(help="A number.")] = 1,
        folders: NetworkFolders = NONE_GIVEN,
        last: Annotated[str, typer.Option(help="A word.")] = "x",
    ) -> None:
        """Say what was given."""
        calls.append((first, folders, last))

    return app, calls


def test_folders_arrive_together_under_the_names_of_their_networks(command):
    app, calls = command
    CliRunner().invoke(app, ["--face-blur-dir", "mine", "--first", "2"], catch_exceptions=False)
    CliRunner().invoke(app, [], catch_exceptions=False)
    assert calls == [
        (2, {"text_encoder": None, "face_blur": "mine"}, "x"),
        (1, {"text_encoder": None, "face_blur": None}, "x"),
    ]


def test_options_stand_where_the_parameter_stands_with_the_help_of_the_table(command):
    app, _ = command
    found: list[Any] = [param for param in typer.main.get_command(app).params if "completion" not in (param.name or "")]
    assert [param.name for param in found] == ["first", "text_encoder_dir", "face_blur_dir", "last"]
    assert found[2].help == "Which face detector, if several are converted."
    assert found[2].rich_help_panel == "Networks"


def test_other_networks_have_no_option(command):
    app, calls = command
    outcome = CliRunner().invoke(app, ["--tokenizer-dir", "mine"])
    assert outcome.exit_code == 2
    assert not calls
