import socket
import time

import pytest

from convert.hub.transport.watchdog import Watchdog


class Stream:
    """What the HTTP library hands to its request extension `trace`."""

    def __init__(self, connection):
        self.connection = connection

    def get_extra_info(self, name):
        return self.connection if name == "socket" else None


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    with ours, theirs:
        yield ours, theirs


def watch(connection, timeout=0.2):
    watchdog = Watchdog(timeout, min_bytes=10)
    watchdog.trace("connection.connect_tcp.started", {})
    watchdog.trace("connection.connect_tcp.complete", {"return_value": Stream(connection)})
    return watchdog


def test_a_read_that_waits_for_ever_is_ended(ends):
    with watch(ends[0]) as watchdog:
        assert ends[0].recv(1) == b""
    assert watchdog.expired


@pytest.mark.parametrize(("count", "expires"), [(1, True), (10, False)])
def test_few_bytes_do_not_buy_time_and_enough_do(ends, count, expires):
    """Bytes for 0.8 s, where 10 are wanted in every 0.2 s; few of them are 8 in all."""
    with watch(ends[0]) as watchdog:
        for _ in range(8):
            time.sleep(0.1)
            watchdog.feed(count)
    assert watchdog.expired == expires


def test_a_connection_that_is_done_stays_open(ends):
    with watch(ends[0], timeout=60.0) as watchdog:
        pass
    ends[1].send(b"x")
    assert ends[0].recv(1) == b"x"
    assert not watchdog.expired
