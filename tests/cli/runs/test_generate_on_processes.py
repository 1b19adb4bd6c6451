"""`jax-interp generate` as two processes of one run: the same video, and one fate."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from jax_interp.errors import Blocked, MediaError
from tests import golden
from tests.guardrails.tiny_guards import link_networks
from tests.media import film_clips

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
SETTINGS = ("--height", 32, "--width", 32, "--dtype", "float32", "--negative-prompt", "", "--num-frame-pairs", 3)
RESULTS = ["film.json", "film.mp4", "film.txt", "frames"]
LIMIT = 120
"""Seconds after which a process counts as hanging."""
PROCESS_FAILURE = 7
MAIN, SLOW = ("-m", "jax_interp"), ("-m", "tests.cli.runs.slow_to_remove")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """One compilation for all processes."""
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "COLUMNS": "500",
    }


class Run:
    """Processes of one run whose results go to `out`."""

    def __init__(self, converted, environment, out):
        self._converted, self._environment, self.out = converted, environment, out
        self._children = []

    def start(
        self, *arguments, source=("--input", golden.CLIP), own=((), ()), steps=2, guarded=False, programs=(MAIN, MAIN)
    ):
        """Start two, both with `arguments` and each with its `own`; without `own` a single process."""
        arguments = arguments if guarded else ("--disable-guardrail", *arguments)
        with socket.create_server(("127.0.0.1", 0)) as door:
            coordinator = f"127.0.0.1:{door.getsockname()[1]}"
        together = ("--coordinator", coordinator, "--num-processes", len(own), "--process-timeout", 5)
        everyones = ("--checkpoint-dir", self._converted, *source, *SETTINGS, "--num-steps", steps,
                     "--video-save-folder", self.out, "--video-save-name", "film", "--save-frames", self.out / "frames",
                     *arguments)  # fmt: skip
        self._children = [
            subprocess.Popen(
                [sys.executable, *program, "generate", *map(str, all_arguments)],
                cwd=ROOT,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for program, all_arguments in zip(
                programs,
                [(*everyones, *together, "--process-id", index, *mine) for index, mine in enumerate(own)]
                if own
                else [everyones],
                strict=False,
            )
        ]

    def end(self):
        """(exit code, output) of every process."""
        outcomes = []
        for child in self._children:
            output, _ = child.communicate(timeout=LIMIT)
            outcomes.append((child.returncode, output))
        return outcomes

    def kill_when_a_pair_is_finished(self, index):
        deadline = time.monotonic() + LIMIT
        while not list(self.out.glob(".film.*.unfinished/000000.npz")):
            assert time.monotonic() < deadline
            assert all(child.poll() is None for child in self._children), self.end()
            time.sleep(0.02)
        os.kill(self._children[index].pid, signal.SIGKILL)

    def stop(self):
        for child in self._children:
            child.kill()
            child.wait()


@pytest.fixture
def run(converted, environment, tmp_path):
    running = Run(converted, environment, tmp_path / "out")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def alone(converted, environment, tmp_path_factory):
    """Frames of a run of one process on one device."""

    def frames(steps):
        single = Run(converted, environment, tmp_path_factory.mktemp("alone"))
        single.start(own=(), steps=steps)
        ((code, output),) = single.end()
        assert code == 0, output
        return pictures(single.out)

    return frames


def pictures(out):
    assert sorted(path.name for path in out.iterdir()) == RESULTS
    return np.stack([iio.imread(path) for path in sorted((out / "frames").iterdir())]).astype(int)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--mesh", "data=2"), marks=pytest.mark.thorough),
        ("--mesh", "data=2,sequence=2", "--placement", "diffusion_transformer=streamed"),
    ],
    ids=["data=2", "data=2,sequence=2"],
)
def test_two_processes_make_the_same_video(run, alone, arguments):
    if arguments == ("--mesh", "data=2"):
        run._environment = run._environment | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    run.start(*arguments)
    outcomes = run.end()
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert "28 frames from 3 pair(s)" in outcomes[0][1]
    assert "frames" not in outcomes[1][1]  # the first one speaks
    theirs, ours = alone(2), pictures(run.out)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1
    record = json.loads((run.out / "film.json").read_text())
    assert ",".join(f"{axis}={size}" for axis, size in record["mesh"].items() if size > 1) == arguments[1]


def test_two_processes_follow_the_inputs_time(run, converted, environment, tmp_path):
    """Both have to find the same pieces, single frames among them; without it one would wait for the other forever."""
    source = ("--input", film_clips.write_film(tmp_path / "a.mp4", film_clips.with_cut(8, 3, 32, 32), None))
    flags = ("--rate", "15", "--duplicates", "merge")
    single = Run(converted, environment, tmp_path / "alone")
    single.start(*flags, source=source, own=())
    ((code, output),) = single.end()
    assert code == 0, output
    run.start("--mesh", "data=2,sequence=2", *flags, source=source)
    outcomes = run.end()
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert np.abs(pictures(run.out) - pictures(single.out)).max() <= 1


SPLIT = ("--mesh", "sequence=4", "--placement", "diffusion_transformer=sharded")


@pytest.mark.parametrize("killed", [0, pytest.param(1, marks=pytest.mark.thorough)])
def test_one_is_killed_and_the_run_goes_on_later(run, alone, killed):
    """Enough steps that the kill comes before the end."""
    run.start(*SPLIT, steps=40)
    run.kill_when_a_pair_is_finished(killed)
    (code, output) = run.end()[1 - killed]
    assert code == PROCESS_FAILURE, output
    assert f"process {killed}" in output
    assert "The same command, started again, goes on where it stopped" in output
    assert "Traceback" not in output
    assert not (run.out / "film.mp4").exists()
    run.start(*SPLIT, steps=40)
    outcomes = run.end()
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert "going on after pair" in outcomes[0][1]
    assert np.abs(pictures(run.out) - alone(40)).max() <= 1


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ((("--seed", 1), ("--seed", 2)), "seed is 1 in process 0, 2 in process 1"),
        pytest.param(
            ((), ("--dtype", "bfloat16")),
            'dtype is "float32" in process 0, "bfloat16" in process 1',
            marks=pytest.mark.thorough,
        ),
        ((("--input", golden.CLIP), ("--input", "missing.mp4")), "missing.mp4"),
    ],
    ids=["seed", "dtype", "input"],
)
def test_processes_that_differ_end_with_the_same_message(run, own, said):
    run.start(own=own, source=() if "--input" in own[0] else ("--input", golden.CLIP))
    for code, output in run.end():
        assert code == PROCESS_FAILURE, output
        assert said in output
        assert "Traceback" not in output
    assert not list(run.out.glob("film*"))


@pytest.mark.thorough
def test_what_the_guardrails_block_ends_all_processes_alike(converted, guarded, environment, tmp_path):
    """Process 0 asks them; what the golden networks make is bright, which the tiny classifier calls violent."""
    shutil.copytree(guarded, tmp_path / "guarded")
    run = Run(link_networks(tmp_path / "guarded", converted), environment, tmp_path / "out")
    try:
        run.start("--height", 64, "--width", 96, guarded=True)
        for code, output in run.end():
            assert code == Blocked.exit_code, output
            assert "the video is blocked by the guardrails (category Violence)" in output
        assert not list(run.out.rglob("*"))
        run.start(own=((), ("--disable-guardrail",)), guarded=True)
        for code, output in run.end():
            assert code == PROCESS_FAILURE, output
            assert "guardrail_frame_stride is 1 in process 0, null in process 1" in output
    finally:
        run.stop()


def test_what_is_blocked_is_removed_before_any_process_ends(converted, guarded, environment, tmp_path):
    """Process 0 removes slowly; were the other one to end meanwhile, it would take it along."""
    shutil.copytree(guarded, tmp_path / "guarded")
    run = Run(link_networks(tmp_path / "guarded", converted), environment, tmp_path / "out")
    try:
        run.start("--height", 64, "--width", 96, guarded=True, programs=(SLOW, MAIN))
        for code, output in run.end():
            assert code == Blocked.exit_code, output
        assert not list(run.out.rglob("*"))
    finally:
        run.stop()


@pytest.mark.parametrize(
    "programs", [pytest.param((MAIN, MAIN), marks=pytest.mark.thorough), (SLOW, MAIN)], ids=["alike", "slow"]
)
def test_a_clip_that_none_can_open_does_not_stop_a_batch(run, tmp_path, programs):
    broken = tmp_path / "broken.mp4"
    broken.write_text("not a video")
    clips = tmp_path / "clips.jsonl"
    names = {"lost": str(broken), "film": str(golden.CLIP)}
    clips.write_text("".join(json.dumps({"visual_input": path, "name": name}) + "\n" for name, path in names.items()))
    run.start(source=("--batch-input-path", clips), programs=programs)
    for code, output in run.end():
        assert code == MediaError.exit_code, output
        assert "1 of 2 clips failed: lost.mp4" in output
    assert (run.out / "film.mp4").exists()
