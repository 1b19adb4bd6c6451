"""The options of a run on several devices and of several processes."""

import re

import pytest

from jax_interp.cli.options.devices import parse_devices, parse_processes
from jax_interp.errors import UsageError
from jax_interp.pipeline.jobs.agreements import join_processes
from jax_interp.pipeline.requests.settings import DeviceSettings, ProcessSettings
from jax_interp.runtime import processes
from jax_interp.runtime.member import Member
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.runtime.processes import jax_internals


def test_one_process_unless_asked_for(monkeypatch):
    def start(member, stale):
        raise AssertionError

    monkeypatch.setattr(processes, "start", start)
    asked = parse_processes(False, None, None, None)
    assert asked == ProcessSettings()
    assert join_processes(asked)


@pytest.mark.parametrize(
    ("given", "member"),
    [((True, None, None, None), None), ((False, "node1:8476", 1, 4), Member("node1:8476", 1, 4))],
)
def test_several_processes(monkeypatch, given, member):
    started = []
    monkeypatch.setattr(processes, "start", lambda member, stale: started.append((member, stale)))
    join_processes(parse_processes(*given, timeout=7))
    assert started == [(member, 7)]


@pytest.mark.parametrize("seconds", [0, 3.9, -1, float("nan")])
def test_too_short_a_timeout(seconds):
    with pytest.raises(UsageError, match=r"--process-timeout.*expected 4 seconds or more"):
        parse_processes(True, None, None, None, timeout=seconds)


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
        parse_processes(distributed, *given)


@pytest.mark.parametrize("given", [("host", 0, 2), ("host:1", 2, 2), ("host:1", 0, 0)])
def test_values_that_cannot_be(given):
    with pytest.raises(UsageError, match="expected"):
        parse_processes(False, *given)


def test_detection_without_a_cluster(monkeypatch):
    monkeypatch.setattr(processes, "is_started", lambda: False)
    monkeypatch.setattr(jax_internals.ClusterEnv, "_cluster_types", [])
    with pytest.raises(UsageError, match="neither Slurm, Open MPI nor Kubernetes"):
        join_processes(parse_processes(True, None, None, None))


@pytest.mark.parametrize(
    ("mesh", "num_gpus", "message"),
    [
        ("data", "auto", "--mesh data: expected sizes of data, sequence, tensor"),
        ("data=2,data=2", "auto", "--mesh data=2,data=2"),
        ("data=0", "auto", "mesh axis data is 0"),
        ("heads=2", "auto", "--mesh heads=2"),
        ("auto", "none", "--num-gpus none: expected auto or a number"),
        ("auto", "0", "--num-gpus 0"),
        ("data=2,sequence=2", "2", "has 4 devices and --num-gpus says 2; these would work: data=2,sequence=1,tensor=1"),
    ],
)
def test_meshes_that_cannot_be(mesh, num_gpus, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_devices(mesh, num_gpus)


def test_what_is_not_given_is_left_to_the_run():
    assert parse_devices("auto", "auto") == DeviceSettings()
    assert parse_devices("sequence=2", "2") == DeviceSettings(mesh=MeshShape(sequence=2), num_gpus=2)
