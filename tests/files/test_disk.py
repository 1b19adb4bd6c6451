"""What is said when a disk does not take a file."""

import errno

from jax_interp.files.disk import why_not_written


def test_reason_space_and_remedy(tmp_path):
    said = why_not_written(tmp_path / "no" / "x", OSError(errno.ENOSPC, "No space left on device"))
    assert said.startswith("cannot be written (No space left on device); ")
    assert said.endswith(f" GB are free in {tmp_path}: make room there, or choose another place")


def test_an_error_without_a_number(tmp_path):
    assert "cannot be written (out of luck); " in why_not_written(tmp_path / "x", ValueError("out of luck"))
