"""The reader of a zip archive's directory: the records that it has and the bytes where they are.

The reader is our own because `zipfile` has no limits: a directory of a few megabytes can make it build a million
objects, and it walks some fields in quadratic time. The layout is that of section 4.3 of
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader

from convert.formats.limits import MAX_DIRECTORY_BYTES, MAX_NAME
from convert.formats.names import shown

_END = struct.Struct("<4s4x2H2I2x")
"""Fields: signature, entries on this disk, entries, bytes of the directory, where it begins; section 4.3.16."""
_END64_LOCATOR = struct.Struct("<4s4xQ4x")
_END64 = struct.Struct("<4s20x2Q2Q")
_ENTRY = struct.Struct("<4s4x2H4x3I3H8xI")
"""Signature, flags, method, CRC-32, compressed and plain bytes, lengths of name, extra and comment, place; 4.3.12."""
_LOCAL = struct.Struct("<4s22x2H")
_LARGEST_COMMENT = 0xFFFF
_IN_EXTRA = 0xFFFFFFFF
"""The value that stands for a number that does not fit: the number is in the entry's extra field."""


class DamagedDirectory(Exception):
    """The archive has no directory, or none that fits the file."""


@dataclass(slots=True)
class ZipEntry:
    """A record of the archive, as the directory describes it."""

    name: str
    offset: int
    """The byte where its local header begins; its own bytes follow that header."""
    size: int
    crc: int
    is_plain: bool
    """Whether its bytes are stored as they are, neither compressed nor encrypted."""
    end: int = 0
    """The byte where the next record, or the directory, begins."""


def read_directory(file: BufferedReader, file_size: int) -> dict[str, ZipEntry]:
    """Return the records of an archive by name, in the directory's order. No two of them overlap.

    Raises:
        DamagedDirectory: there is no directory, it is larger than `limits.MAX_DIRECTORY_BYTES`, or it is damaged.
    """
    begin, size, count = _find_directory(file, file_size)
    if size > MAX_DIRECTORY_BYTES:
        raise DamagedDirectory(f"the directory has {size:,} bytes, more than the {MAX_DIRECTORY_BYTES:,} that are read")
    entries = list(_entries(_read_at(file, begin, size)))
    if len(entries) != count:
        raise DamagedDirectory(f"it should have {count} records and has {len(entries)}")
    by_place = sorted(entries, key=lambda entry: entry.offset)
    ends = [entry.offset for entry in by_place[1:]] + [begin]
    for entry, end in zip(by_place, ends, strict=True):
        if entry.offset + _LOCAL.size + len(entry.name) + (entry.size if entry.is_plain else 0) > end:
            raise DamagedDirectory(f"record {shown(entry.name)} reaches into what follows it")
        entry.end = end
    named = {entry.name: entry for entry in entries}
    if len(named) != len(entries):
        raise DamagedDirectory("it has two records of one name")
    return named


def first_byte(file: BufferedReader, entry: ZipEntry) -> int:
    """Return the byte where a record's bytes begin, which only its local header and its padding tell.

    Raises:
        DamagedDirectory: the header is not there, or the bytes do not fit before the next record.
    """
    header = os.pread(file.fileno(), _LOCAL.size + 4 * len(entry.name), entry.offset)
    if len(header) < _LOCAL.size:
        raise DamagedDirectory(f"record {shown(entry.name)} does not lie in the file")
    signature, name_length, extra_length = _LOCAL.unpack_from(header)
    start = entry.offset + _LOCAL.size + name_length + extra_length
    name = header[_LOCAL.size : _LOCAL.size + name_length]
    if signature != b"PK\3\4" or name not in (entry.name.encode(), entry.name.encode("cp437", "replace")):
        raise DamagedDirectory(f"record {shown(entry.name)} does not lie where the directory says")
    if start + entry.size > entry.end:
        raise DamagedDirectory(f"record {shown(entry.name)} reaches into what follows it")
    return start


def _find_directory(file: BufferedReader, file_size: int) -> tuple[int, int, int]:
    """Return the byte where the directory begins, its size in bytes and its number of records."""
    tail_size = min(file_size, _END.size + _LARGEST_COMMENT)
    tail = _read_at(file, file_size - tail_size, tail_size)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise DamagedDirectory("no directory at its end")
    _, _, count, size, begin = _END.unpack_from(tail, at)
    end = file_size - tail_size + at
    if end >= _END64_LOCATOR.size:
        signature, place = _END64_LOCATOR.unpack(_read_at(file, end - _END64_LOCATOR.size, _END64_LOCATOR.size))
        if signature == b"PK\6\7":
            if place + _END64.size > end:
                raise DamagedDirectory("the end of the directory does not lie in the file")
            end = place
            signature, _, count, size, begin = _END64.unpack(_read_at(file, place, _END64.size))
            if signature != b"PK\6\6":
                raise DamagedDirectory("the end of the directory does not lie where the file says")
    if begin + size != end:
        raise DamagedDirectory("the directory does not end where the file says")
    return begin, size, count


def _entries(directory: bytes) -> Iterator[ZipEntry]:
    at = 0
    while at < len(directory):
        if at + _ENTRY.size > len(directory):
            raise DamagedDirectory("an entry is cut short")
        fields = _ENTRY.unpack_from(directory, at)
        signature, flags, method, crc, packed, size, name_length, extra_length, comment_length, offset = fields
        extra = at + _ENTRY.size + name_length
        next_entry = extra + extra_length + comment_length
        if signature != b"PK\1\2" or next_entry > len(directory):
            raise DamagedDirectory("an entry is not one")
        if name_length > MAX_NAME:
            raise DamagedDirectory(f"a record has a name of more than {MAX_NAME} letters")
        name = _name(directory[at + _ENTRY.size : extra], flags)
        if _IN_EXTRA in (size, packed, offset):
            size, packed, offset = _large(directory, extra, extra + extra_length, (size, packed, offset), name)
        yield ZipEntry(name, offset, size, crc, is_plain=method == 0 and not flags & 1 and packed == size)
        at = next_entry


def _name(raw: bytes, flags: int) -> str:
    try:
        return raw.decode("utf-8" if flags & 0x800 else "cp437")
    except UnicodeDecodeError as error:
        raise DamagedDirectory("the name of a record is no text") from error


def _large(directory: bytes, at: int, end: int, numbers: tuple[int, ...], name: str) -> Iterator[int]:
    """Return `numbers` with those filled in that stand in the extra field between `at` and `end`; 4.5.3."""
    while at + 4 <= end:
        kind, length = struct.unpack_from("<2H", directory, at)
        at += 4
        if kind == 1:
            wanted = numbers.count(_IN_EXTRA)
            if 8 * wanted > min(length, end - at):
                break
            found = iter(struct.unpack_from(f"<{wanted}Q", directory, at))
            return (next(found) if number == _IN_EXTRA else number for number in numbers)
        at += length
    raise DamagedDirectory(f"record {shown(name)} has sizes that are stated nowhere")


def _read_at(file: BufferedReader, start: int, size: int) -> bytes:
    file.seek(start)
    data = file.read(size)
    if len(data) != size:
        raise DamagedDirectory("it is cut short")
    return data
