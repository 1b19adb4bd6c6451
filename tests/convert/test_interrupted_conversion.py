"""`jax-interp convert` and `export` stopped from outside: a message, an exit code, nothing half-written, no traceback.

The same command then finishes the work.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jax_interp.config import DiTConfig
from tests.convert.checkpoints import DIT, T5, copy_golden, everything_below
from tests.convert.test_conversion import write_sparse_dit

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LARGE = DiTConfig(width=64, num_heads=2, head_width=32, num_blocks=16, mlp_width=1 << 15, text_width=8, adaln_rank=8)


def start(*arguments, limit=None):
    """The command as a process; `limit` is the largest file that it may write."""
    program = ["-m", "jax_interp"] if limit is None else ["-c", LIMITED, str(limit)]
    # A shell ignores Ctrl-C in what it runs in the background; children of these tests would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, *program, *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | {"COLUMNS": "500"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from jax_interp.cli.main import main
main()
"""


def end(process):
    output, _ = process.communicate(timeout=120)
    assert "Traceback" not in output
    return process.returncode, output


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A checkpoint folder whose transformer takes a while to be converted."""
    source = copy_golden(tmp_path_factory.mktemp("large"), T5)
    write_sparse_dit(source / DIT, LARGE)
    return source


def wait_for(process, found):
    deadline = time.monotonic() + 120
    while not found():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def convert(source, out, **options):
    return start("convert", "--checkpoint-dir", source, "--output-dir", out, **options)


def test_ctrl_c_while_a_network_is_written(large, tmp_path):
    out = tmp_path / "converted"
    process = convert(large, out)
    partial = out / f".{DIT}.converting" / "params.orbax-checkpoint-tmp"
    wait_for(process, lambda: partial.is_dir() and any(partial.iterdir()))
    process.send_signal(signal.SIGINT)
    code, output = end(process)
    assert code == 130, output
    assert "run the same command again" in output
    assert not out.exists()
    assert end(convert(large, out))[0] == 0
    assert sorted(path.name for path in out.iterdir()) == [DIT, "google-t5"]


@pytest.mark.parametrize("seconds", [0.6, 0.9, 1.2, 1.6])
def test_ctrl_c_at_any_time(large, tmp_path, seconds):
    """While libraries are imported, files are opened, checksums computed, or a network is written, as it happens."""
    out = tmp_path / "converted"
    process = convert(large, out)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    code, output = end(process)
    assert code in (0, 130), output
    assert [path.name for path in out.rglob(".*")] == [] if out.exists() else code == 130
    again, output = end(convert(large, out))
    assert again == 0, output


def test_ctrl_c_while_a_network_is_exported(large, tmp_path):
    out, exported = tmp_path / "converted", tmp_path / "exported"
    assert end(convert(large, out))[0] == 0
    before = everything_below(out)
    arguments = ("export", "--converted-dir", out, "--output-dir", exported)
    process = start(*arguments)
    wait_for(process, lambda: any(exported.rglob("*.safetensors")))
    process.send_signal(signal.SIGINT)
    code, output = end(process)
    assert code == 130, output
    assert not exported.exists()
    assert everything_below(out) == before
    assert end(start(*arguments))[0] == 0


@pytest.mark.parametrize("limit", [100, 1 << 16, 1 << 20])
def test_files_that_may_not_grow_so_large(large, tmp_path, limit):
    """`ulimit -f`: a file would go beyond what the process may write."""
    out = tmp_path / "converted"
    code, output = end(convert(large, out, limit=limit))
    assert code == 3, output
    assert "would be larger than this process or this disk allows; nothing of it was kept" in output
    assert "ulimit -f" in output
    assert not out.exists()
