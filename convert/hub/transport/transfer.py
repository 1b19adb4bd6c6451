"""The transfer of one file: it goes on where it broke off and never writes beyond the listed size."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from convert.hub.transport.connection import check_speed, content_length, content_type
from convert.hub.transport.faults import BadResponse
from convert.hub.transport.watchdog import Watchdog

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


@dataclass
class PartialDownload:
    """The partial download of a file of `size` bytes to `output`, which is open for appending."""

    output: BinaryIO
    size: int
    arrived: Callable[[int], None]
    """A function that is told how many new bytes came; the number is negative where bytes are thrown away."""
    etag: str | None = None
    """The ETag of the content that is being fetched, once it was seen."""

    @property
    def have(self) -> int:
        """The number of bytes that are there."""
        return self.output.seek(0, 2)

    def shorten(self, size: int) -> None:
        """Keep the first `size` bytes only."""
        surplus = self.have - size
        self.output.truncate(size)
        if surplus > 0:
            self.arrived(-surplus)

    def append(self, response: Any, watch: Watchdog) -> None:
        """Append the bytes that the response holds of the file. If its connection breaks, what has arrived stays.

        Raises:
            BadResponse: it is not the bytes that were asked for, too many or too few of them, and none is kept. If they
                only came too slowly, or in a part that is right but not the last, all are kept.
        """
        start, stop = self._extent(response)
        self.shorten(start)
        left = stop - start
        for chunk in response.iter_raw():
            if len(chunk) > left:
                self.shorten(start)
                raise BadResponse(f"is longer than the {self.size} bytes that the hub lists")
            self.output.write(chunk)
            left -= len(chunk)
            watch.feed(len(chunk))
            self.arrived(len(chunk))
        check_speed(watch)
        if left:
            # A body that ends as it should, but early, is something else than the file: a login page, for one.
            self.shorten(start)
            raise BadResponse(self._too_short(response, stop - left), transient=True)
        if stop < self.size:
            raise BadResponse(self._too_short(response, stop), transient=True)

    def _extent(self, response: Any) -> tuple[int, int]:
        """Return the first byte of the file that the response holds, and the one behind the last."""
        start, stop, total = 0, self.size, content_length(response)
        if response.status_code == 206:
            text = response.headers.get("Content-Range", "")
            match = _CONTENT_RANGE.fullmatch(text)
            if not match or int(match[1]) != self.have or int(match[2]) < int(match[1]):
                got = text[:60] or "a part that is not named"
                text = f"is not the rest of the file from byte {self.have} on, but {got}"
                raise BadResponse(text, transient=True, unresumable=True)
            start, stop, total = int(match[1]), int(match[2]) + 1, None if match[3] == "*" else int(match[3])
        if max(stop, total or 0) > self.size:
            raise BadResponse(f"has {max(stop, total or 0)} bytes, but the hub lists {self.size}")
        if total is not None and total < self.size:
            raise BadResponse(self._too_short(response, total), transient=True)
        self._compare_etag(response, start)
        return start, stop

    def _compare_etag(self, response: Any, start: int) -> None:
        """Notice that the content is replaced while it is fetched; weak marks say nothing about single bytes."""
        etag = response.headers.get("ETag", "W/")
        etag = None if etag.startswith("W/") else etag
        if start and self.etag and etag and etag != self.etag:
            raise BadResponse("is of another content than what has arrived", transient=True, unresumable=True)
        self.etag = etag

    def _too_short(self, response: Any, size: int) -> str:
        kind = content_type(response)
        return (
            f"ends after {size} of the {self.size} bytes that the hub lists{kind and f' ({kind})'}; a proxy or a login "
            "page of the network may answer in the hub's place"
        )
