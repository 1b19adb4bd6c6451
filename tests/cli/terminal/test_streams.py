"""The program as a process: readers that go, streams that are closed, Ctrl-C while it starts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jax_interp.errors import INTERRUPTED
from tests import golden
from tests.convert.checkpoints import T5

PROGRAM = [sys.executable, "-m", "jax_interp"]
FILE = str(golden.CHECKPOINTS / T5 / "pytorch_model.bin")


def shell(line, **environment):
    """Run `line` with the program as `$@`."""
    return subprocess.run(
        ["bash", "-c", line, "bash", *PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | environment,
    )


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone(unbuffered):
    """`head` may end before or after everything is written: then the program ends with 1, else with 0."""
    done = shell(f'"$@" inspect {FILE} --keys | head -1; echo ${{PIPESTATUS[0]}}', PYTHONUNBUFFERED=unbuffered)
    assert done.stderr == ""
    *lines, code = done.stdout.splitlines()
    assert len(lines) == 1
    assert code in ("0", "1")
    gone = shell(f'{{ sleep 0.1; "$@" inspect {FILE}; echo $? >&2; }} | true', PYTHONUNBUFFERED=unbuffered)
    assert gone.stderr == "1\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "out", "err"),
    [(">&-", False, False), ("2>&-", True, False), (">&- 2>&- <&-", False, False)],
)
def test_streams_that_are_closed(line, out, err):
    done = shell(f'"$@" inspect {FILE} {line}')
    assert (done.returncode, bool(done.stdout), bool(done.stderr)) == (0, out, err)
    failed = shell(f'"$@" inspect nowhere {line}')
    assert failed.returncode == 3
    assert failed.stdout == ""
    assert failed.stderr.startswith("error: nowhere") == (line == ">&-")
    assert "Traceback" not in failed.stderr


@pytest.mark.slow
def test_ctrl_c_while_the_program_is_imported(tmp_path):
    """`typer` is the first library that it imports: here one that has the process interrupted."""
    Path(tmp_path, "typer.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # children of a shell's background ignore it
    try:
        done = shell('exec "$@" --version', PYTHONPATH=path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "", "interrupted\n")
