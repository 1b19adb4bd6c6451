"""FILE[=STRENGTH] as it is written on the command line."""

from pathlib import Path

import pytest

from convert.lora.strength import parse_strength
from jax_interp.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.safetensors", (Path("a.safetensors"), 1.0)),
        ("a.safetensors=0.5", (Path("a.safetensors"), 0.5)),
        ("run=2/a=-1", (Path("run=2/a"), -1.0)),
        ("a=0", (Path("a"), 0.0)),
    ],
)
def test_file_and_strength(text, expected):
    assert parse_strength(text) == expected


def test_a_file_whose_name_has_an_equals_sign(tmp_path):
    path = tmp_path / "rank=8"
    path.mkdir()
    assert parse_strength(str(path)) == (path, 1.0)


@pytest.mark.parametrize("text", ["a=strong", "a=", "=1", "a=nan", "a=inf"])
def test_what_is_no_strength(text):
    with pytest.raises(UsageError, match="expected FILE or FILE=STRENGTH"):
        parse_strength(text)
