"""What is said when a disk does not take a file."""

import errno

import pytest

from jax_interp.files.disk import why_not_written


def test_reason_space_and_remedy(tmp_path):
    said = why_not_written(tmp_path / "no" / "x", OSError(errno.ENOSPC, "No space left on device"))
    assert said.startswith("cannot be written (No space left on device); ")
    assert said.endswith(f" GB are free in {tmp_path}: make room there, or choose another place")


def test_an_error_without_a_number(tmp_path):
    assert "cannot be written (out of luck); " in why_not_written(tmp_path / "x", ValueError("out of luck"))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_room_does_not_help_where_nothing_may_be_written(tmp_path, number):
    said = why_not_written(tmp_path / "x", OSError(number, "words of the system"))
    assert said == f"cannot be written (words of the system); choose another place, or allow to write in {tmp_path}"
