"""Processes find each other before JAX starts, or say who is missing."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from jax_interp.errors import ProcessFailure, UsageError
from jax_interp.runtime.member import Member
from jax_interp.runtime.processes.rendezvous import meet


@pytest.fixture
def coordinator():
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    return f"127.0.0.1:{port}"


def outcomes(members, timeout):
    """What each of `members`, in threads, gets: names or the message of its error."""

    def join(member):
        try:
            return meet(member, timeout)
        except (ProcessFailure, UsageError) as error:
            return str(error)

    with ThreadPoolExecutor(len(members)) as pool:
        return list(pool.map(join, members))


def test_all_come(coordinator):
    members = [Member(coordinator, index, 3, host=f"node{index}") for index in range(3)]
    assert outcomes(members[::-1], 20) == [["node0", "node1", "node2"]] * 3


def test_a_stranger_and_one_that_was_started_anew_do_no_harm(coordinator):
    host, port = coordinator.split(":")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(meet, Member(coordinator, 0, 3, host="node0"), 20)
        for line in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"[]\n",
            json.dumps({"index": 1, "count": 3, "host": "old"}).encode() + b"\n",
        ):
            call = knock(host, int(port))
            call.sendall(line)
            call.close()
        third = pool.submit(meet, Member(coordinator, 2, 3, host="node2"), 20)
        time.sleep(0.5)  # most often it comes before the one that takes the place of the old
        second = meet(Member(coordinator, 1, 3, host="new"), 20)
        assert first.result() == second == third.result() == ["node0", "new", "node2"]


def knock(host, port):
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection((host, port), timeout=1)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_who_is_missing_is_named_to_all_who_came(coordinator):
    found = outcomes([Member(coordinator, index, 4) for index in (0, 2)], 1.5)
    assert found[0] == found[1]
    assert f"processes 1, 3 of 4 did not come to {coordinator} within 1.5 s" in found[0]


def test_no_process_0(coordinator):
    (found,) = outcomes([Member(coordinator, 1, 2)], 0.5)
    assert f"process 1 found no process 0 at {coordinator} within 0.5 s" in found
    assert "refused" in found


def test_different_counts(coordinator):
    found = outcomes([Member(coordinator, 0, 3, host="a"), Member(coordinator, 1, 2, host="b")], 20)
    assert found[0] == found[1]
    assert "process 1 on b has --num-processes 2, process 0 on a has 3" in found[0]


def test_one_number_given_twice(coordinator):
    member = Member(coordinator, 1, 4, host="a")
    found = outcomes([replace(member, index=0), member, replace(member, host="b")], 20)
    assert len(set(map(str, found))) == 1
    assert "--process-id 1 was given twice, on " in found[0]


def test_a_port_in_use(coordinator):
    host, port = coordinator.split(":")
    with socket.create_server((host, int(port))):
        (found,) = outcomes([Member(coordinator, 0, 2)], 1)
    assert f"--coordinator {coordinator}: cannot listen there" in found


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":80", "host:0", "host:65536", "host:x", "a b:1", "http://host:1"]
)
def test_malformed_addresses(address):
    with pytest.raises(UsageError, match=r"expected HOST:PORT, as node1:8476"):
        Member(address, 0, 2)


def test_addresses():
    assert Member("node1.cluster:8476", 0, 2).address == ("node1.cluster", 8476)
    assert Member("[fe80::1]:80", 0, 2).address == ("fe80::1", 80)


@pytest.mark.parametrize(
    ("index", "count", "message"), [(2, 2, "expected 0 to 1"), (-1, 2, "expected 0 to 1"), (0, 0, "from 1 on")]
)
def test_numbers_out_of_range(index, count, message):
    with pytest.raises(UsageError, match=message):
        Member("host:1", index, count)
