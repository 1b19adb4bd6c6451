import struct
import zipfile

import pytest

from convert.formats.limits import MAX_NAME
from convert.formats.pytorch.zip_directory import DamagedDirectory, first_byte, read_directory
from tests.convert.formats.hostile import directory, entry


def write(path, records, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return path


def read(path):
    """What every plain record has, found as the reader of archives finds it."""
    with path.open("rb") as file:
        entries = read_directory(file, path.stat().st_size)
        found = {}
        for name, record in entries.items():
            file.seek(first_byte(file, record))
            found[name] = file.read(record.size)
    return found, entries


RECORDS = {"archive/data.pkl": b"pickle", "archive/data/0": bytes(range(256)) * 5, "archive/größe": b"", "d/": b""}


def test_records_are_those_of_zipfile(tmp_path):
    found, entries = read(write(tmp_path / "a.zip", RECORDS))
    assert found == RECORDS
    assert list(entries) == list(RECORDS)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        for info in archive.infolist():
            known = entries[info.filename]
            assert (known.offset, known.size, known.crc) == (info.header_offset, info.file_size, info.CRC)
            assert known.is_plain


def test_a_comment_and_a_name_of_an_old_encoding_do_no_harm(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("größe", b"x")
        archive.comment = b"c" * 1000
    data = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.index(signature)
        data[at + flags : at + flags + 2] = bytes(2)
        name = data.index("größe".encode(), at)
        data[name : name + 7] = b"gr\x94\xe1e__"
    path.write_bytes(data)
    assert read(path)[0] == {"größe__": b"x"}


def test_records_behind_four_gigabytes_are_found(tmp_path):
    """Sizes and places that need 64 bits stand in the extra field, behind fields of other kinds."""
    extra = struct.pack("<HH", 0x5455, 5) + bytes(5) + struct.pack("<HHQQQ", 1, 24, 7, 7, 1 << 33)
    raw = bytearray(entry(b"far", 0xFFFFFFFF, extra, 0xFFFFFFFF))
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        file.seek(1 << 33)
        file.write(b"PK\3\4" + bytes(22) + struct.pack("<2H", 3, 0) + b"far" + b"content")
        begin = file.tell()
        file.write(raw)
        end = struct.pack("<Q2H2I4Q", 44, 45, 45, 0, 0, 1, 1, len(raw), begin)
        file.write(b"PK\6\6" + end + b"PK\6\7" + struct.pack("<IQI", 0, begin + len(raw), 1))
        file.write(b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    assert read(path)[0] == {"far": b"content"}


def damaged(path, change):
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def at_entry(number, offset, value):
    """Put bytes into entry `number` of the directory."""

    def change(data):
        at = -1
        for _ in range(number + 1):
            at = data.index(b"PK\1\2", at + 1)
        data[at + offset : at + offset + len(value)] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (at_entry(1, 42, struct.pack("<I", 0)), "reaches into what follows"),
        (at_entry(0, 42, struct.pack("<I", 1)), "reaches into what follows"),
        (lambda data: data.__setitem__(slice(0, 4), b"PK\3\5"), "does not lie where the directory says"),
        (at_entry(1, 20, struct.pack("<2I", 1 << 20, 1 << 20)), "reaches into what follows"),
        (at_entry(1, 46, b"arch"), "does not lie where the directory says"),
        (at_entry(1, 24, struct.pack("<I", 0xFFFFFFFF)), "sizes that are stated nowhere"),
        (at_entry(0, 0, b"PK\1\3"), "not one"),
        (at_entry(3, 28, struct.pack("<H", 500)), "not one"),
        (at_entry(1, 28, struct.pack("<H", MAX_NAME + 1)), "not one"),
        (lambda data: data.__delitem__(slice(-30, None)), "no directory at its end"),
        (lambda data: data.__setitem__(slice(-10, -6), b"\0\0\0\1"), "does not end where the file says"),
        (lambda data: data.__setitem__(slice(-6, -2), struct.pack("<I", 0xFFFFFFFF)), "does not end where"),
        (lambda data: data.__setitem__(slice(-12, -10), b"\5\0"), "5 records and has 4"),
    ],
)
def test_directories_that_do_not_fit_are_refused(tmp_path, change, message):
    records = {"arc1": b"one", "arc2": b"two", "arc3": b"three", "arc4": b""}
    path = damaged(write(tmp_path / "a.zip", records), change)
    with pytest.raises(DamagedDirectory, match=message):
        read(path)


def test_compressed_and_encrypted_records_are_told(tmp_path):
    write(tmp_path / "compressed.zip", {"a": b"a" * 100}, compression=zipfile.ZIP_DEFLATED)
    damaged(write(tmp_path / "encrypted.zip", {"a": b"a"}), at_entry(0, 8, b"\1"))
    for path in tmp_path.iterdir():
        with path.open("rb") as file:
            assert not read_directory(file, path.stat().st_size)["a"].is_plain


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    with pytest.raises(DamagedDirectory, match="two records of one name"):
        read(tmp_path / "a.zip")


def test_a_record_that_lies_over_another_is_refused(tmp_path):
    """The overlapping records of zip bombs: each would be read, and the file is as small as one of them."""
    (tmp_path / "a.zip").write_bytes(directory(iter([entry(b"a"), entry(b"b")])))
    with pytest.raises(DamagedDirectory, match="record a reaches into what follows it"):
        read(tmp_path / "a.zip")


def test_an_archive_that_is_cut_anywhere_is_refused(tmp_path):
    data = write(tmp_path / "a.zip", RECORDS).read_bytes()
    for length in range(len(data)):
        (tmp_path / "cut.zip").write_bytes(data[:length])
        with pytest.raises(DamagedDirectory):
            read(tmp_path / "cut.zip")
