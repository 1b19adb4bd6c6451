"""Real processes on this machine, joined by JAX's distributed runtime: they agree, and end together."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jax_interp.errors import ProcessFailure, UsageError
from jax_interp.runtime import processes
from jax_interp.runtime.member import Member

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
CHILD = Path(__file__).with_name("process_member.py")
LIMIT = 60
"""Seconds after which a process counts as hanging."""
FAILED = ProcessFailure.exit_code
GO_ON = "The same command, started again, goes on where it stopped"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as door:
        return door.getsockname()[1]


class Children:
    """Processes of one run, their output in files."""

    def __init__(self, folder):
        self.folder = folder
        self.started = {}
        self.coordinator = f"127.0.0.1:{free_port()}"

    def start(self, scenario, count=2, **variables):
        environment = (
            os.environ | variables | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "JAX_PLATFORMS": "cpu"}
        )
        environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
        for index in range(count):
            with self.file(index).open("w") as output:
                self.started[index] = subprocess.Popen(
                    [sys.executable, CHILD, scenario, self.coordinator, str(index), str(count)],
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )

    def file(self, index):
        return self.folder / f"{index}.txt"

    def said(self, index):
        return self.file(index).read_text()

    def await_ready(self):
        deadline = time.monotonic() + LIMIT
        while any("ready" not in self.said(index) for index in self.started):
            assert time.monotonic() < deadline, self.all_said()
            assert all(child.poll() is None for child in self.started.values()), self.all_said()
            time.sleep(0.05)

    def send(self, index, number):
        self.started[index].send_signal(number)

    def end(self, index):
        """Its exit code and what it said, once it has ended."""
        try:
            code = self.started[index].wait(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            pytest.fail(f"process {index} hangs\n{self.all_said()}")
        return code, self.said(index)

    def all_said(self):
        return "\n".join(f"--- {index}\n{self.said(index)}" for index in self.started)

    def stop(self):
        for child in self.started.values():
            if child.poll() is None:
                child.kill()
            child.wait()


@pytest.fixture
def children(tmp_path):
    children = Children(tmp_path)
    yield children
    children.stop()


def check_message(text, *parts):
    """One message, nothing of JAX's own and no traceback."""
    errors = re.findall(r"^error: .*$", text, re.MULTILINE)
    assert len(errors) == 1, text
    assert all(part in errors[0] for part in parts), text
    assert "Traceback" not in text
    assert "stack trace" not in text
    return errors[0]


def test_a_single_process_needs_nobody():
    processes.agree("versions", {"jax": "1"})
    assert processes.decide("pairs", [1, 2]) == [1, 2]
    processes.barrier("the loading")
    with processes.shared_fate():
        assert (processes.index(), processes.count(), processes.is_first()) == (0, 1, True)
    with pytest.raises(ProcessFailure, match="mine"), processes.shared_fate():
        raise ProcessFailure("mine")
    processes.finish()


def test_joining_after_jax_has_started_is_refused():
    import jax

    jax.devices()
    with pytest.raises(UsageError, match="before JAX is used"):
        processes.start(Member("host:1", 0, 2))


SLURM = {
    "SLURM_JOB_ID": "123456", "SLURM_STEP_NODELIST": "node[3-4]", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "5", "SLURM_LOCALID": "1",
}  # fmt: skip


def test_slurm_says_who_this_is(monkeypatch):
    def meet(member, timeout):
        raise ProcessFailure(f"{member.coordinator} {member.index} {member.count} {member.local_devices}")

    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "meet", meet)
    monkeypatch.setattr(processes, "is_started", lambda: False)
    with pytest.raises(ProcessFailure, match=r"^node3:\d+ 5 8 \(1,\)$"):
        processes.start()
    with pytest.raises(ProcessFailure, match=r"^node9:80 1 2 \(1,\)$"):
        processes.start(Member("node9:80", 1, 2))


@pytest.mark.parametrize("count", [2, 3])
def test_they_agree(children, count):
    children.start("agree", count)
    for index in range(count):
        code, text = children.end(index)
        assert code == 0, text
        assert f"sum {2 * count} of {2 * count}" in text
        assert f"agreed, [0, 2], {index} of {count}" in text


def test_they_differ(children):
    children.start("disagree", 3)
    messages = set()
    for index in range(3):
        code, text = children.end(index)
        assert code == FAILED, text
        messages.add(check_message(text, 'software.jaxlib is "0.11.0" in process 0, "0.11.1" in process 1'))
    assert len(messages) == 1
    assert "flax" not in messages.pop()


def test_they_come_to_different_places(children):
    children.start("wrong_order")
    for index in range(2):
        code, text = children.end(index)
        assert code == FAILED, text
        check_message(text, "process 1 (", "came to: writing, while process 0 came to: reading")


def test_one_comes_too_late(children):
    children.start("late")
    for index in (0, 1):
        code, text = children.end(index)
        assert code == FAILED, text
        check_message(text, "process 1 (", "did not come within 2 s to: the loading")


@pytest.mark.parametrize("scenario", ["barrier", "collective"])
@pytest.mark.parametrize("victim", [0, 1])
def test_killed(children, scenario, victim):
    children.start(scenario)
    children.await_ready()
    children.send(victim, signal.SIGKILL)
    killed = time.monotonic()
    code, text = children.end(1 - victim)
    assert code == FAILED, text
    check_message(text, f"process {victim} (", GO_ON)
    assert time.monotonic() - killed < 30


@pytest.mark.parametrize("victim", [0, 1])
def test_frozen(children, victim):
    children.start("sleep")
    children.await_ready()
    children.send(victim, signal.SIGSTOP)
    code, text = children.end(1 - victim)
    assert code == FAILED, text
    check_message(text, f"process {victim} (", "died or hangs", GO_ON)


def test_three_of_which_one_is_killed(children):
    children.start("barrier", 3)
    children.await_ready()
    children.send(2, signal.SIGKILL)
    for index in (0, 1):
        code, text = children.end(index)
        assert code == FAILED, text
        check_message(text, "process 2 (", "died or hangs", GO_ON)


def test_one_raises(children):
    children.start("failure")
    code, text = children.end(1)
    assert code == 4, text
    check_message(text, "error: clip.mp4: not a video")
    code, text = children.end(0)
    assert code == FAILED, text
    check_message(text, "process 1 (", "failed: clip.mp4: not a video")


def test_process_0_raises(children):
    children.start("first_fails")
    code, text = children.end(0)
    assert code == 1, text
    check_message(text, "error: unexpected ", "a mistake in the program; JAX_INTERP_TRACEBACK=1")
    code, text = children.end(1)
    assert code == FAILED, text
    check_message(text, "process 0 (", "failed: a mistake in the program")


def test_ctrl_c(children):
    children.start("sleep")
    children.await_ready()
    children.send(1, signal.SIGINT)
    assert children.end(1)[0] == 130
    code, text = children.end(0)
    assert code == FAILED, text
    check_message(text, "process 1 (", "failed: interrupted")


def test_an_early_end_is_no_failure(children):
    children.start("early_end")
    for index in (1, 0):
        code, text = children.end(index)
        assert (code, text) == (0, "done\n")


def test_terminated(children):
    """A cluster's manager ends processes by SIGTERM, which JAX would swallow."""
    children.start("sleep")
    children.await_ready()
    children.send(1, signal.SIGTERM)
    assert children.end(1)[0] == -signal.SIGTERM


def test_a_proxy_does_not_come_between(children):
    children.start("early_end", http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")
    for index in (0, 1):
        assert children.end(index) == (0, "done\n")
