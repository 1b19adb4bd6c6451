"""Values that no option of any command can have."""

import os

import pytest
import typer

from jax_interp.cli.main import app
from jax_interp.cli.values import TEXTS, check_values
from jax_interp.errors import UsageError
from tests.commands import jax_interp

COMMANDS = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]


def options():
    """(command, flag) of every option that takes a value, texts left out."""
    for name, command in COMMANDS.items():
        for param in command.params:
            if param.opts[0].startswith("--") and not getattr(param, "is_flag", False) and param.name not in TEXTS:
                yield name, param.opts[0]


def test_there_are_options_of_every_kind():
    found = set(options())
    assert {("generate", "--input"), ("convert", "--output-dir"), ("download", "--checkpoint-dir")} <= found
    assert {("export", "--converted-dir"), ("check", "--save-blurred"), ("generate", "--tokenizer-dir")} <= found
    assert len(found) > 80


@pytest.mark.parametrize(("command", "flag"), list(options()), ids="-".join)
def test_an_empty_value_is_refused(command, flag):
    arguments = ("x.png",) if command in ("upsample", "inspect") else ()
    for given in ((flag, ""), (f"{flag}=",)):
        outcome = jax_interp(command, *arguments, *given)
        assert outcome.code == UsageError.exit_code, outcome.output
        assert f'{flag} "": is empty' in outcome.output


@pytest.mark.parametrize(("command", "name"), [("upsample", "input"), ("inspect", "path")])
def test_an_empty_argument_is_refused(command, name):
    outcome = jax_interp(command, "")
    assert outcome.code == UsageError.exit_code
    assert f'{name} "": is empty' in outcome.output


def test_one_of_several_values(tmp_path):
    outcome = jax_interp("generate", "--input", tmp_path / "a.png", "", tmp_path / "b.png")
    assert (outcome.code, '--input "": is empty' in outcome.output) == (UsageError.exit_code, True)


def test_texts_may_be_empty_and_long():
    check_values({"prompt": "", "negative_prompt": "x" * 5000, "number": 3, "switch": None}, {})
    outcome = jax_interp("check", "--prompt", "", "--checkpoint-dir", "nowhere")
    assert "is empty; give a value" not in outcome.output


@pytest.mark.parametrize("flag", ["--prompt", "--video", "--checkpoint-dir", "--video_save_name"])
def test_bytes_that_are_no_utf8(flag):
    outcome = jax_interp("generate" if "save" in flag else "check", flag, os.fsdecode(b"caf\xe9"))
    assert outcome.code == UsageError.exit_code
    assert r"'caf\udce9': is not valid UTF-8" in outcome.output


@pytest.mark.parametrize("path", ["x" * 256, "é" * 128, "d/" * 2100])
@pytest.mark.parametrize(
    "arguments", [("generate", "--input"), ("inspect",), ("upsample",), ("convert", "--output-dir")], ids="-".join
)
def test_names_that_no_file_can_have(arguments, path):
    outcome = jax_interp(*arguments, path)
    assert outcome.code == UsageError.exit_code
    assert "no file can have a name of" in outcome.output


def test_other_paths_are_not_looked_at(tmp_path):
    (tmp_path / "file").touch()
    check_values({"input": [str(tmp_path / "none"), str(tmp_path / "file" / "x"), "."]}, {})
