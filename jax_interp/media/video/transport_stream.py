"""The end of an MPEG transport stream. It does not state its length, but its packets and frames have ends of their own.

A packet has 188 bytes and starts with 0x47; recorders on discs put 4 bytes before each, broadcasters 16 bytes behind.
A frame starts in a packet of its own, and its last packet is padded: only one in 184 ends just where a packet does.
"""

from pathlib import Path
from typing import BinaryIO

_LAYOUTS = ((188, 0), (192, 4), (204, 0))
"""Bytes from one packet's start to that of the next, and bytes before its 0x47."""

_TAIL = 4 << 20
"""The number of bytes at the end in which the last frame is looked for."""


def find_truncated_packet(file: BinaryIO, size: int) -> str | None:
    """Return a message if the last packet is not complete; None if it is, or if this is no transport stream."""
    layout = _layout(file)
    if layout is None:
        return None
    length, lead = layout
    rest = size % length
    file.seek(size - rest + lead)
    return f"its last packet lacks {length - rest} bytes" if file.read(1) == b"\x47" else None


def ends_within_frame(path: Path, stream_id: int) -> bool:
    """Tell whether the last packet of a stream is full, so that its frame goes on; wrong for a complete file in 184.

    Args:
        path: the file.
        stream_id: the stream's number in the container (PID).

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        layout = _layout(file)
        if layout is None:
            return False
        length, lead = layout
        end = file.seek(0, 2) // length * length
        start = max(0, end - _TAIL // length * length)
        file.seek(start)
        tail = file.read(end - start)
    last = None
    for at in range(end - start - length + lead, -1, -length):
        packet = tail[at : at + 188]
        if int.from_bytes(packet[1:3]) & 0x1FFF != stream_id:
            continue
        last = packet if last is None else last
        if packet[1] & 0x40:  # a frame starts here
            return _is_full(last) and _has_no_length(packet)
    return last is not None and _is_full(last)


def _layout(file: BinaryIO) -> tuple[int, int] | None:
    file.seek(0)
    head = file.read(5 * 204)
    return next(((length, lead) for length, lead in _LAYOUTS if set(head[lead::length]) == {0x47}), None)


def _is_full(packet: bytes) -> bool:
    """Tell whether no byte of a packet is padding, as far as its adaptation field is understood."""
    if not packet[3] & 0x20:
        return True
    length, flags = packet[4], packet[5]
    clocks = 6 * bool(flags & 0x10) + 6 * bool(flags & 0x08) + bool(flags & 0x04)
    return length == 1 + clocks and not flags & 0x03


def _has_no_length(packet: bytes) -> bool:
    """Tell whether the frame that starts in a packet leaves its own length open, as frames of video do."""
    payload = packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]
    return payload[4:6] == b"\0\0"
