"""The README shows what was measured and names what exists."""

import re
from pathlib import Path

import pytest

from scripts import update_readme
from tests.commands import jax_interp

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = re.findall(r"^jax-interp (\w+)(.*)$", README, re.MULTILINE)


def test_tables_are_those_of_the_result_files():
    assert update_readme.updated(README) == README


def test_other_numbers_would_be_noticed():
    assert update_readme.updated(README.replace(" GiB |", " GB |")) == README


@pytest.mark.parametrize(("command", "arguments"), COMMANDS)
def test_flags_of_every_example_exist(command, arguments):
    words = {word.rstrip(",") for word in jax_interp(command, "--help").output.split()}
    for flag in re.findall(r"--[a-z-]+", arguments.split("#")[0]):
        assert flag in words


def test_pictures_exist():
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (Path(__file__).parents[1] / path).is_file()
