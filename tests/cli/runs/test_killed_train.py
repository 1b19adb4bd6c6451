"""A run that is killed at random moments and resumed: the losses and weights of an undisturbed one, to the bit."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.train.training_data import HEIGHT, WIDTH, add_clip

STEPS, KILLS = 24, 10


def command(converted, data, run, *options):
    return [
        *(sys.executable, "-m", "jax_interp", "train", "--data", data, "--checkpoint-dir", converted),
        *("--output-dir", run, "--height", HEIGHT, "--width", WIDTH, "--steps", STEPS, "--dtype", "float32"),
        *("--save-every", 3, "--keep", 1, "--learning-rate", 1e-3, "--batch-size", 2, *options),
    ]


def start(arguments):
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [str(argument) for argument in arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def kill_after(process, path, lines, pause):
    """Kill `process` `pause` seconds after it noted one more step than `lines`; whether it was still alive."""
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_text().count("\n") > lines:
            break
        time.sleep(0.01)
    time.sleep(pause)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return alive


def chunks(folder):
    """The bytes of all arrays below `folder`, by file; what Orbax notes of times and places is left out."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if "c" in path.relative_to(folder).parts}


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_killed_at_ten_random_moments(converted, tmp_path):
    for name in ("one", "three"):
        add_clip(tmp_path / "data", name)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = start(command(converted, tmp_path / "data", whole))
    _, said = undisturbed.communicate()
    assert undisturbed.returncode == 0, said.decode()
    metrics, draw, kills, begun = killed / "metrics.jsonl", random.Random(0), 0, False
    for _ in range(KILLS):
        process = start(command(converted, tmp_path / "data", killed, *(["--resume"] if begun else [])))
        lines = metrics.read_text().count("\n") if metrics.exists() else 0
        # Some fall into reading, encoding and compiling, others between steps or into the writing of a checkpoint.
        kills += kill_after(process, metrics, draw.choice([-1, lines, lines]), draw.random() * 0.4)
        begun = (killed / "run.json").exists()
    assert kills >= KILLS // 2
    last = start(command(converted, tmp_path / "data", killed, "--resume"))
    _, said = last.communicate()
    assert last.returncode == 0, said.decode()
    assert metrics.read_text() == (whole / "metrics.jsonl").read_text()
    for folder in ("network/params", f"checkpoints/step-{STEPS:09d}/state"):
        one, other = (chunks(run / folder) for run in (whole, killed))
        assert len(one) >= 30  # the network has as many arrays
        assert one == other
    leftovers = [path.name for path in (killed / "checkpoints").iterdir()]
    assert leftovers == [f"step-{STEPS:09d}"]
