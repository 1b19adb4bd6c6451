"""A watchdog for connections that bring next to nothing: a byte a minute never runs into a read timeout."""

import contextlib
import socket
import threading
import time
from typing import Any


class Watchdog:
    """Shuts the connection of one request unless, every `timeout` seconds, it brings headers or `min_bytes` bytes.

    The HTTP library's own timeouts are for a single read each. A hub that sends its headers or the file byte by byte
    keeps to them forever; here the time is measured from one sign of progress to the next.
    """

    def __init__(self, timeout: float, min_bytes: int) -> None:
        self.timeout = timeout
        self.expired = False
        self._min_bytes = min_bytes
        self._arrived = 0
        self._deadline = time.monotonic() + timeout
        self._done = threading.Event()
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._watch, name="download watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        for connection in self._sockets:
            connection.close()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Hear of every connection that is opened: the HTTP library's request extension `trace`.

        The socket is duplicated because TLS takes the original over; both ends stand for the same connection.
        """
        if event.endswith("connect_tcp.complete"):
            self._sockets.append(info["return_value"].get_extra_info("socket").dup())

    def headers_arrived(self) -> None:
        """Start the time anew, because headers have arrived."""
        self._arrived, self._deadline = 0, time.monotonic() + self.timeout

    def feed(self, count: int) -> None:
        """Note that `count` bytes have arrived; `min_bytes` of them start the time anew."""
        self._arrived += count
        if self._arrived >= self._min_bytes:
            self.headers_arrived()

    def _watch(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            if self._done.wait(left):
                return
        self.expired = True
        for connection in list(self._sockets):
            with contextlib.suppress(OSError):  # the other end was faster
                connection.shutdown(socket.SHUT_RDWR)
