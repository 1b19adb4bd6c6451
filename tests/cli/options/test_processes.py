"""The options of a run of several processes."""

import pytest

from jax_interp.cli.options.processes import ProcessFlags
from jax_interp.errors import UsageError
from jax_interp.runtime import processes
from jax_interp.runtime.member import Member


def test_one_process_unless_asked_for(monkeypatch):
    def start(member, stale):
        raise AssertionError

    monkeypatch.setattr(processes, "start", start)
    flags = ProcessFlags.parse(False, None, None, None)
    assert flags == ProcessFlags(False, None, 60)
    flags.start()


@pytest.mark.parametrize(
    ("given", "member"),
    [((True, None, None, None), None), ((False, "node1:8476", 1, 4), Member("node1:8476", 1, 4))],
)
def test_several_processes(monkeypatch, given, member):
    started = []
    monkeypatch.setattr(processes, "start", lambda member, stale: started.append((member, stale)))
    ProcessFlags.parse(*given, timeout=7).start()
    assert started == [(member, 7)]


@pytest.mark.parametrize("seconds", [0, 3.9, -1, float("nan")])
def test_too_little_patience(seconds):
    with pytest.raises(UsageError, match=r"--process-timeout.*expected 4 seconds or more"):
        ProcessFlags.parse(True, None, None, None, timeout=seconds)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("host:1", None, None), "--coordinator without --process-id and --num-processes"),
        ((None, 0, 2), "--process-id, --num-processes without --coordinator"),
        (("host:1", 0, None), "--coordinator, --process-id without --num-processes"),
    ],
)
@pytest.mark.parametrize("distributed", [False, True])
def test_all_three_or_none(distributed, given, message):
    with pytest.raises(UsageError, match=message):
        ProcessFlags.parse(distributed, *given)


@pytest.mark.parametrize("given", [("host", 0, 2), ("host:1", 2, 2), ("host:1", 0, 0)])
def test_values_that_cannot_be(given):
    with pytest.raises(UsageError, match="expected"):
        ProcessFlags.parse(False, *given)


def test_detection_without_a_cluster(monkeypatch):
    monkeypatch.setattr(processes.xla_bridge, "backends_are_initialized", lambda: False)
    monkeypatch.setattr(processes.ClusterEnv, "_cluster_types", [])
    with pytest.raises(UsageError, match="neither Slurm, Open MPI nor Kubernetes"):
        ProcessFlags.parse(True, None, None, None).start()
