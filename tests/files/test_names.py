"""Names that fit, in bytes, and that can be written down."""

import os
from pathlib import Path

import pytest

from jax_interp.errors import UsageError
from jax_interp.files.names import check_lengths, check_text


def siblings(target):
    return [target, target.with_name(f".{target.stem}.0123456789ab.unfinished")]


def check(target):
    check_lengths("--name", target, siblings(target))


@pytest.mark.parametrize("letter", ["x", "é", "映", "😀"])
def test_the_longest_name_that_fits_can_be_made_and_one_more_letter_is_refused(tmp_path, letter):
    room = os.pathconf(tmp_path, "PC_NAME_MAX") - len(".." + "0123456789ab" + ".unfinished")
    stem = letter * (room // len(letter.encode()))
    check(tmp_path / f"{stem}.mp4")
    for path in siblings(tmp_path / f"{stem}.mp4"):
        path.touch()
    with pytest.raises(
        UsageError, match=rf"--name: {letter}{{40}}… has {len((stem + letter).encode())} bytes, "
    ) as error:
        check(tmp_path / f"{stem}{letter}.mp4")
    assert "choose a shorter one" in str(error.value)


def test_the_file_system_says_how_long_names_may_be(tmp_path, monkeypatch):
    real = os.pathconf
    monkeypatch.setattr(os, "pathconf", lambda path, name: 143 if name == "PC_NAME_MAX" else real(path, name))
    check(tmp_path / f"{'x' * 118}.mp4")
    with pytest.raises(UsageError, match="has 119 bytes, 1 more than there is room for"):
        check(tmp_path / f"{'x' * 119}.mp4")


def test_a_folder_that_is_to_be_made(tmp_path):
    check(tmp_path / "a" / "b" / "x.mp4")
    with pytest.raises(UsageError, match="the folder yyy"):
        check(tmp_path / ("y" * 256) / "x.mp4")


def test_a_path_that_is_too_long_as_a_whole(tmp_path):
    deep = Path(tmp_path, *["d" * 200] * 20)
    with pytest.raises(UsageError, match="more than there is room for"):
        check(deep / ("x" * 100 + ".mp4"))


@pytest.mark.parametrize("text", ["", "a", "映像 😀", "\n"])
def test_texts(text):
    check_text("--prompt", text)


@pytest.mark.parametrize("text", [os.fsdecode(b"caf\xe9"), "\ud800", "a\udfff"])
def test_what_is_no_text(text):
    with pytest.raises(UsageError, match=r"--prompt '.*\\ud.*': is not valid UTF-8") as error:
        check_text("--prompt", text)
    str(error.value).encode()
