"""A door to the coordinator within each process, which stays open when the coordinator goes.

JAX's client ends the process in C++, with a stack trace, the moment its connection to process 0 closes. Through this
door it notices nothing, and the process can say what happened.
"""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread

_RETRY = 0.1


class Proxy:
    """A relay between `address`, on this machine, and the coordinator, in both directions.

    `lost` is called, in a thread of the proxy's, when the coordinator has closed a connection or cannot be reached for
    `timeout` seconds.
    """

    def __init__(self, coordinator: tuple[str, int], timeout: float, lost: Callable[[], None]) -> None:
        self._coordinator, self._timeout, self._lost = coordinator, timeout, lost
        self._transparent = Event()
        self._door = socket.create_server(("127.0.0.1", 0))
        Thread(target=self._serve, name="proxy", daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._door.getsockname()[1]}"

    def expect_end(self) -> None:
        """Note that the coordinator may end from now on, without being reported as lost."""
        self._transparent.set()

    def _serve(self) -> None:
        while True:
            near = self._door.accept()[0]
            far = self._reach()
            if far is None:
                self._gone(near)
                continue
            Thread(target=self._connect, args=(near, far), daemon=True).start()

    def _connect(self, near: socket.socket, far: socket.socket) -> None:
        """Until one side closes: JAX, which may, or the coordinator, which does so by dying."""
        closed_here = Event()

        def upwards() -> None:
            _pass_on(near, far)
            closed_here.set()
            _close(far)

        Thread(target=upwards, daemon=True).start()
        _pass_on(far, near)
        if not closed_here.wait(0.2):  # both may come at once
            self._gone(near)

    def _reach(self) -> socket.socket | None:
        """A connection to the coordinator, which may be about to listen."""
        deadline = time.monotonic() + self._timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                far = socket.create_connection(self._coordinator, timeout=left)
            except OSError:
                time.sleep(_RETRY)
            else:
                far.settimeout(None)
                return far
        return None

    def _gone(self, near: socket.socket) -> None:
        if not self._transparent.is_set():
            self._lost()
        _close(near)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        for connection in (source, sink):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := source.recv(65536):
            sink.sendall(data)


def _close(connection: socket.socket) -> None:
    """Close it for good; a thread that reads from it gets its end."""
    with suppress(OSError):  # the other side may have been faster
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
