"""`jax-interp generate` stopped by Ctrl-C or killed: the same command finishes the same video."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jax_interp.media.reader import open_frames
from tests import golden

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PAIRS = 3
# Enough steps that a pair takes much longer than noticing that the one before is finished.
SETTINGS = ("--height", 32, "--width", 32, "--num-steps", 200, "--dtype", "float32", "--negative-prompt", "")
RESULTS = ["film.json", "film.mp4", "film.txt", "frames"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """One compilation for all processes."""
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "COLUMNS": "500",  # no line of the log is broken
    }


@pytest.fixture(scope="module")
def start(converted, environment):
    """Start the command, its results going to the given folder."""

    def popen(out):
        arguments = ("--checkpoint-dir", converted, "--input", golden.CLIP, *SETTINGS, "--video-save-folder", out,
                     "--video-save-name", "film", "--save-frames", out / "frames")  # fmt: skip
        # A shell ignores Ctrl-C in what it runs in the background, and nohup a terminal that is closed; children of
        # these tests would inherit that.
        heard = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
        before = {number: signal.signal(number, handler) for number, handler in heard.items()}
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "jax_interp", "generate", "--disable-guardrail", *map(str, arguments)],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    return popen


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The folder of a run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole")
    process = start(out)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert names(out) == RESULTS
    return out


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def stored_pairs(out):
    """Finished pairs of the unfinished run in `out`, by number, as what tells one file from another."""
    files = (path for path in out.glob(".film.*.unfinished/*.npz") if path.stem.isdigit())
    return {int(path.stem): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def interrupt(process, out, number):
    """Send signal `number` as soon as the first pair is finished; returns everything printed."""
    deadline = time.monotonic() + 120
    while not stored_pairs(out):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no pair was finished"
        time.sleep(0.01)
    process.send_signal(number)
    return process.communicate(timeout=60)[0]


def resume(process, out):
    """Let it finish; returns what it printed and every version of the stored pairs that was seen."""
    seen = set()
    while process.poll() is None:
        try:
            seen |= set(stored_pairs(out).items())
        except FileNotFoundError:  # the folder goes at the end
            continue
        time.sleep(0.01)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    return output, seen


def check_resumed(start, out, whole):
    """The same command takes the stored pairs as they are, makes the others, and ends with the video of `whole`."""
    before = stored_pairs(out)
    assert sorted(before) == list(range(len(before)))
    assert 0 < len(before) < PAIRS
    output, seen = resume(start(out), out)
    assert re.search(rf"going on after pair {len(before)} of {PAIRS}\b", output)
    assert {pair for pair in seen if pair[0] in before} == set(before.items())
    assert names(out) == RESULTS
    assert (out / "film.mp4").read_bytes() == (whole / "film.mp4").read_bytes()
    assert open_frames([out / "film.mp4"]).num_frames == 9 * PAIRS + 1
    assert names(out / "frames") == names(whole / "frames")
    for name in names(whole / "frames"):
        assert (out / "frames" / name).read_bytes() == (whole / "frames" / name).read_bytes()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.thorough),
    ],
    ids=str,
)
def test_ctrl_c(start, whole, tmp_path, number, code):
    """And what asks a program to end without a keyboard: a service manager, a terminal that is closed."""
    process = start(tmp_path)
    output = interrupt(process, tmp_path, number)
    assert process.returncode == code, output
    assert "interrupted; the same command goes on with the first pair that was not finished" in output
    assert "Traceback" not in output
    (left,) = names(tmp_path)
    assert re.fullmatch(r"\.film\.[0-9a-f]{12}\.unfinished", left)
    check_resumed(start, tmp_path, whole)


def test_kill(start, whole, tmp_path):
    process = start(tmp_path)
    interrupt(process, tmp_path, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not set(names(tmp_path)) & set(RESULTS)
    left = " ".join(names(tmp_path))
    assert re.search(r"\.film\.mp4\.[0-9a-f]{12}\.part ", left)
    assert re.search(r"\.frames\.[0-9a-f]{12}\.part ", left)
    check_resumed(start, tmp_path, whole)
