"""The check whether a video file is truncated, that is, ends before its own structure does.

Durations cannot tell: a picture may start after its sound or end before it, an edit list may skip, time stamps may
start anywhere, and a last frame may have no duration. Sizes can. MP4 and QuickTime are boxes, Matroska and WebM are
EBML elements, AVI and WebP are RIFF chunks, GIF is blocks, APNG is chunks, and each of them says how many bytes it has.
An MPEG transport stream says nothing, but its packets have one size. Only headers are read, and at most `_MAX_HEADERS`
of them.
"""

import struct
from pathlib import Path
from typing import BinaryIO

from jax_interp.media.video.transport_stream import find_truncated_packet

_MAX_HEADERS = 1_000_000
"""The number of headers that are read of one file; what follows is not judged, so that no file keeps us busy."""


def find_truncation(path: Path, container: str) -> str | None:
    """Return why a file is truncated, as in "its mdat box lacks 1,204 bytes"; None if it does not seem so.

    A file that was cut exactly where one box, cluster, packet or block ends and the next begins, in a container that
    does not say how many there are, cannot be told from a shorter one.

    Args:
        path: the file.
        container: libavformat's name of its format, as "matroska,webm"; of others than those above nothing is said.

    Raises:
        OSError: the file cannot be read.
    """
    look = {
        "mov": _boxes,
        "matroska": _elements,
        "avi": _riff_chunks,
        "mpegts": find_truncated_packet,
        "gif": _gif_blocks,
        "apng": _png_chunks,
        "webp": _riff_chunks,
    }.get(container.split(",")[0])
    if look is None:
        return None
    with path.open("rb") as file:
        return look(file, file.seek(0, 2))


def _read_at(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _lacks(what: str, size: int) -> str:
    return f"its {what} lacks {size:,} bytes"


def _boxes(file: BinaryIO, size: int) -> str | None:
    """Walk MP4 or QuickTime: 4 bytes size (1: 8 bytes of size follow the type; 0: to the file's end), type, content."""
    at, kind, fragmented = 0, b"", False
    for _ in range(_MAX_HEADERS):
        header = _read_at(file, at, 16)
        if len(header) < 8:
            # Behind a whole file a few bytes are harmless. Behind a fragment they begin the next one.
            missing = kind == b"moof" or (fragmented and header)
            return "its last fragment is not complete" if missing else None
        length, kind = int.from_bytes(header[:4]), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16])
        if length < 8:
            return None
        at += length
        if at > size:
            # Something else than these may be cut, or be no box at all.
            return _lacks(f"{kind.decode()} box", at - size) if kind in (b"moov", b"moof", b"mdat") else None
        fragmented |= kind == b"moof"
    return None


_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_OPENED = (_SEGMENT, _CLUSTER)
"""Elements that a live recorder writes without a size; their children are then read as if they were beside them."""


def _elements(file: BinaryIO, size: int) -> str | None:
    """Walk Matroska or WebM: an ID of 1 to 4 bytes, a size of 1 to 8 bytes (all ones: unknown), content."""
    at, end = 0, size
    for _ in range(_MAX_HEADERS):
        if at >= end:
            return None
        header = _read_at(file, at, 12)
        id_length, size_length = _vint_length(header[:1]), 0
        if 1 <= id_length <= 4:
            size_length = _vint_length(header[id_length : id_length + 1])
        start = id_length + size_length
        if len(header) < max(start, id_length + 1):
            return "its last element is not complete"
        if not 1 <= id_length <= 4 or size_length > 8:
            return f"there is no Matroska element at byte {at:,}"
        kind = int.from_bytes(header[:id_length])
        unknown = (1 << 7 * size_length) - 1
        length = int.from_bytes(header[id_length:start]) & unknown
        at += start
        if kind == _SEGMENT and length != unknown:
            end = at + length
            if end > size:
                return _lacks("Segment", end - size)
        elif not (kind in _OPENED and length == unknown):
            at += length
            if at > size:
                return _lacks("last element", at - size)
    return None


def _vint_length(first: bytes) -> int:
    """Return how many bytes an EBML number has by the leading zeros of its first byte; 9 if it is not one."""
    return 9 - first[0].bit_length() if first else 9


def _riff_chunks(file: BinaryIO, size: int) -> str | None:
    """Walk AVI or WebP: "RIFF", 4 bytes size, content; longer files have several. A stopped recorder leaves no size."""
    at = 0
    for _ in range(_MAX_HEADERS):
        header = _read_at(file, at, 8)
        if len(header) < 8 or header[:4] != b"RIFF":
            return None
        length = int.from_bytes(header[4:], "little")
        if length in (0, 0xFFFFFFFF):
            return None
        at += 8 + length
        if at > size:
            return _lacks("RIFF chunk", at - size)
        at += length % 2
    return None


def _gif_blocks(file: BinaryIO, size: int) -> str | None:
    """Walk a GIF: a header with a palette; extensions (0x21) and pictures (0x2C) in parts of up to 255 bytes; 0x3B."""
    at, inside = 13 + _palette(_read_at(file, 10, 1)), False
    for _ in range(_MAX_HEADERS):
        first = _read_at(file, at, 1)
        if inside and first:
            at += 1 + first[0]
            inside = first[0] > 0
        elif first == b"\x21":
            at, inside = at + 2, True
        elif first == b"\x2c":
            at, inside = at + 11 + _palette(_read_at(file, at + 9, 1)), True
        else:
            return "its last block is not complete" if inside or at > size else None
    return None


def _palette(flags: bytes) -> int:
    """Return the size in bytes of the palette that a GIF's flags announce."""
    return 3 << (flags[0] % 8 + 1) if flags and flags[0] & 0x80 else 0


def _png_chunks(file: BinaryIO, size: int) -> str | None:
    """Walk a PNG: a signature of 8 bytes; then 4 bytes size, type, content, 4 bytes checksum; IEND comes last."""
    at = 8
    for _ in range(_MAX_HEADERS):
        header = _read_at(file, at, 8)
        if len(header) < 8:
            return "its IEND chunk is missing"
        length, kind = struct.unpack(">I4s", header)
        at += 12 + length
        if kind == b"IEND":
            return None
        if at > size:
            return _lacks(f"{kind.decode('latin-1')} chunk", at - size)
    return None
