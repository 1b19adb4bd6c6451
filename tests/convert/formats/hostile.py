"""Small files that would take a careless reader minutes or gigabytes; each is a kind of its own.

`KINDS` gives the bytes of a file of about 16 MB by name, and the suffix under which it is read.
"""

import struct
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO

from convert.formats.limits import MAX_JSON_VALUES, MAX_TENSORS

SIZE = (1 << 24) - 64

# A memo of what a tensor is made of: 0 the function, 1 its arguments, 2 a tensor, 3 a storage's arguments.
TENSOR = (
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00"
    b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tq\x03Q"
    b"K\x00%s%s\x89ccollections\nOrderedDict\n)Rtq\x01Rq\x02"
)
ONE_AXIS = TENSOR % (b"K\x01\x85", b"K\x01\x85")
MANY_AXES = TENSOR % ((b"(" + b"K\x01" * 64 + b"t",) * 2)


def repeated(before: bytes, part: bytes, after: bytes, size: int = SIZE) -> bytes:
    return before + part * ((size - len(before) - len(after)) // len(part)) + after


def joined(before: bytes, parts: Iterator[bytes], after: bytes, size: int = SIZE) -> bytes:
    left, taken = size - len(before) - len(after), []
    for part in parts:
        left -= len(part)
        if left < 0:
            break
        taken.append(part)
    return before + b"".join(taken) + after


def text(letters: str) -> bytes:
    raw = letters.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def counted(make: Callable[[int], bytes], count: int = SIZE) -> Iterator[bytes]:
    return (make(i) for i in range(count))


def deep(before: bytes, inner: bytes, levels: int) -> bytes:
    return before + inner * levels


def long_global() -> bytes:
    names = text("__torch__." + "a" * (SIZE // 4)) + b"q\x00" + text("b" * (SIZE // 4)) + b"q\x01"
    return repeated(b"\x80\x02" + names + b"](", b"h\x00h\x01\x93", b"e.")


def long_arguments(function: bytes) -> bytes:
    arguments = b"(" + b"N" * 200_000 + b"tq\x01"
    return repeated(b"\x80\x02" + function + b"q\x00" + arguments + b"](", b"h\x00h\x01R", b"e.")


def same_state() -> bytes:
    state = b"}q\x00(" + b"".join(text(f"{i}") + b"N" for i in range(50_000)) + b"u"
    return repeated(b"\x80\x02" + state + b"c__torch__\nA\n)\x81q\x01(", b"h\x01h\x00b", b"l.")


def shared_attributes() -> bytes:
    state = b"}q\x00(" + b"".join(text(f"{i}") + b"N" for i in range(100_000)) + b"u"
    record = b"h\x01)\x81h\x00b"
    return repeated(b"\x80\x02c__torch__\nA\nq\x01" + state + b"](", record, b"e.", SIZE // 4)


def long_names() -> bytes:
    names = joined(b"", (text(f"{i}") + b"h\x02" for i in range(SIZE)), b"", SIZE - 10_000)
    return ONE_AXIS + b"}" + text("n" * 4000) + b"}(" + names + b"us."


PICKLES: dict[str, Callable[[], bytes]] = {
    "keys that collide": lambda: joined(
        b"\x80\x02}(", counted(lambda i: number(i * ((1 << 61) - 1)) + b"N"), b"u.", SIZE // 4
    ),
    "keys that collide for long": lambda: joined(b"\x80\x02}(", counted(lambda i: number(i << 40) + b"N"), b"u."),
    "tuples as keys": lambda: joined(b"\x80\x02}(", counted(lambda i: number(i << 40) + b"\x85N"), b"u."),
    "floats as keys": lambda: joined(
        b"\x80\x02}(", counted(lambda i: b"G" + struct.pack(">d", float(i << 40)) + b"N"), b"u."
    ),
    "huge numbers": lambda: repeated(b"\x80\x02](", b"\x8a\xff" + b"\x7f" * 255, b"e."),
    "numbers": lambda: repeated(b"\x80\x02](", b"J\x01\x02\x03\x04", b"e."),
    "reals": lambda: repeated(b"\x80\x02](", b"G" + struct.pack(">d", 1.5), b"e."),
    "empty lists": lambda: repeated(b"\x80\x02](", b"]", b"e."),
    "empty dicts": lambda: repeated(b"\x80\x02](", b"}", b"e."),
    "marks": lambda: repeated(b"\x80\x02", b"(", b"."),
    "lists in lists": lambda: deep(b"\x80\x02", b"](", SIZE // 2),
    "tuples in tuples": lambda: repeated(b"\x80\x02)", b"\x85", b"."),
    "dicts in dicts": lambda: repeated(b"\x80\x02}q\x00", b"}q\x01X\x01\x00\x00\x00ah\x00s", b"."),
    "dicts of one": lambda: repeated(b"\x80\x02X\x01\x00\x00\x00aq\x00](", b"}h\x00Ns", b"e."),
    "short texts": lambda: repeated(b"\x80\x04](", b"\x8c\x02\xc4\x80", b"e."),
    "a long text": lambda: b"\x80\x02" + text("a" * (SIZE - 200) + "\U0001f600") + b".",
    "a long key": lambda: ONE_AXIS + b"}" + text("a" * (SIZE - 400)) + b"h\x02s.",
    "one bytes after the other": lambda: repeated(b"\x80\x03](", b"C\x00", b"e."),
    "tensors of many axes": lambda: repeated(MANY_AXES + b"](", b"h\x00h\x01R", b"e."),
    "one tensor of many axes under many names": lambda: joined(
        MANY_AXES + b"}(", counted(lambda i: text(f"{i}") + b"h\x02"), b"u."
    ),
    "tensors": lambda: repeated(ONE_AXIS + b"](", b"h\x00h\x01R", b"e."),
    "one tensor under many names": lambda: joined(ONE_AXIS + b"}(", counted(lambda i: text(f"{i}") + b"h\x02"), b"u."),
    "one tensor in many places": lambda: repeated(ONE_AXIS + b"](", b"h\x02", b"e."),
    "one long name before many": long_names,
    "storages": lambda: repeated(ONE_AXIS + b"](", b"h\x03Q", b"e."),
    "sizes": lambda: repeated(
        b"\x80\x02ctorch\nSize\nq\x00](" + b"K\x01" * 64 + b"e\x85q\x01](", b"h\x00h\x01R", b"e."
    ),
    "a storage of many": lambda: repeated(
        b"\x80\x02(" + text("storage") + b"N" * 200_000 + b"tq\x00](", b"h\x00Q", b"e."
    ),
    "a tensor of many": lambda: long_arguments(b"ctorch._utils\n_rebuild_tensor_v2\n"),
    "a parameter of many": lambda: long_arguments(b"ctorch._utils\n_rebuild_parameter\n"),
    "long globals": long_global,
    "globals": lambda: repeated(b"\x80\x02](", b"c__torch__\nA\n", b"e."),
    "objects": lambda: repeated(b"\x80\x02c__torch__\nA\nq\x00](", b"h\x00)\x81", b"e."),
    "objects with attributes": lambda: repeated(
        b"\x80\x02c__torch__\nA\nq\x00X\x01\x00\x00\x00aq\x01](", b"h\x00)\x81}h\x01Nsb", b"e."
    ),
    "one state for many": same_state,
    "objects that share attributes": shared_attributes,
    "a far memo": lambda: repeated(b"\x80\x02N", b"r\xff\xff\xff\xff", b"."),
    "memos far apart": lambda: joined(b"\x80\x02N", counted(lambda i: b"r" + struct.pack("<I", i << 8)), b"."),
    "memos": lambda: repeated(b"\x80\x04N", b"\x94", b"."),
    "doubled sixty times": lambda: ONE_AXIS + b"q\x04h\x04\x86" * 60 + b".",
    "doubled sixty times, empty": lambda: b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b".",
}


def archive(pickle: bytes, storages: int = 1) -> bytes:
    """An archive of `torch.save`, every storage of four bytes."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as records:
        records.writestr("archive/data.pkl", pickle)
        for index in range(storages):
            records.writestr(f"archive/data/{index}", bytes(4))
    return file.getvalue()


def directory(entries: Iterator[bytes], size: int = SIZE) -> bytes:
    """A zip archive of nothing but a directory and a first record."""
    head = b"PK\3\4" + bytes(26)
    listed, count = [], 0
    for entry in entries:
        size -= len(entry)
        if size < 0:
            break
        listed.append(entry)
        count += 1
    body = b"".join(listed)
    end = b"PK\6\6" + struct.pack("<Q2H2I4Q", 44, 45, 45, 0, 0, count, count, len(body), len(head))
    locator = b"PK\6\7" + struct.pack("<IQI", 0, len(head) + len(body), 1)
    return head + body + end + locator + b"PK\5\6" + struct.pack("<4H2IH", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)


def entry(name: bytes, offset: int = 0, extra: bytes = b"", size: int = 0) -> bytes:
    fixed = struct.pack("<4H4I5H2I", 45, 45, 0x800, 0, 0, 0, size, size, len(name), len(extra), 0, 0, 0, 0, offset)
    return b"PK\1\2" + fixed + name + extra


ZIPS: dict[str, Callable[[], bytes]] = {
    "records": lambda: directory(counted(lambda i: entry(b"%d" % i, 31 * i))),
    "records, more than are read": lambda: directory(counted(lambda i: entry(b"%d" % i, 31 * i)), 4 * SIZE),
    "records over each other": lambda: directory(counted(lambda i: entry(b"%d" % i))),
    "records of long names": lambda: directory(counted(lambda i: entry(b"%065000d" % i))),
    "extra fields": lambda: directory(counted(lambda i: entry(b"%d" % i, 0, b"\2\0\0\0" * 16_000, 0xFFFFFFFF))),
}


def safetensors(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def headers(size: int) -> dict[str, Callable[[], bytes]]:
    """JSON of `size` bytes, or of as many values as that has room for."""
    return {
        "lists": lambda: repeated(b'{"a":[', b"[],", b"0]}", size),
        "objects": lambda: repeated(b'{"a":[', b"{},", b"0]}", size),
        "objects of one": lambda: repeated(b'{"a":[', b'{"":0},', b"0]}", size),
        "numbers": lambda: repeated(b'{"a":[', b"1.5,", b"0]}", size),
        "keys": lambda: joined(b"{", counted(lambda i: b'"%d":"%d",' % (i, i)), b'"a":"0"}', size),
        "texts": lambda: repeated(b'{"a":[', '"Ā",'.encode(), b"0]}", size),
        "tiny tensors": lambda: joined(
            b"{",
            counted(lambda i: b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},' % i),
            b'"__metadata__":{}}',
            size,
        ),
        "tensors of many axes": lambda: joined(
            b"{",
            counted(lambda i: b'"%d":{"dtype":"U8","shape":[' % i + b"0," * 63 + b'0],"data_offsets":[0,0]},'),
            b'"__metadata__":{}}',
            size,
        ),
    }


def as_many_as_are_read(name: str) -> bytes:
    """The longest of `headers` with no more values than the limit."""
    size = SIZE
    while sum((text := headers(size)[name]()).count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES:
        size = int(size * 0.95)
    return text


HEADERS: dict[str, Callable[[], bytes]] = {
    **headers(SIZE),
    **{f"{name}, as many as are read": lambda name=name: as_many_as_are_read(name) for name in headers(SIZE)},
    "a long text": lambda: b'{"a":"' + b"a" * (SIZE - 100) + '\U0001f600"}'.encode(),
    "a long key": lambda: b'{"' + b"a" * (SIZE - 100) + b'":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
    "levels": lambda: b'{"a":' * (SIZE // 5),
    "long numbers": lambda: repeated(b'{"a":[', b"1" * 4299 + b",", b"0]}"),
    "a number": lambda: b'{"a":' + b"1" * (SIZE - 100) + b"}",
    "more than is read": lambda: repeated(b'{"a":[', b"[],", b"0]}", 100_000_000),
}


def index(weight_map: bytes) -> bytes:
    return b'{"weight_map":' + weight_map + b"}"


INDICES: dict[str, Callable[[], bytes]] = {
    "files": lambda: joined(b"{", counted(lambda i: b'"%d":"%d.bin",' % (i, i)), b'"a":"a.bin"}', SIZE // 4),
    "names": lambda: joined(b"{", counted(lambda i: b'"%d":"a.bin",' % i), b'"a":"a.bin"}'),
    "names, as many as are read": lambda: joined(
        b"{", counted(lambda i: b'"%d":"a.bin",' % i, MAX_TENSORS - 1), b'"a":"a.bin"}'
    ),
    "more than is read": HEADERS["more than is read"],
    "levels": HEADERS["levels"],
    "a number": HEADERS["a number"],
    "objects": HEADERS["objects"],
}


def legacy(pickle: bytes) -> bytes:
    magic = b"\x80\x02\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little") + b"."
    machine = b"\x80\x02}" + text("little_endian") + b"\x88s."
    return magic + b"\x80\x02M\xe9\x03." + machine + pickle


def _kinds() -> Iterator[tuple[str, tuple[str, Callable[[], bytes]]]]:
    for name, make in PICKLES.items():
        yield f"pickle: {name}", (".pt", lambda make=make: archive(make()))
    for name in ("empty lists", "keys that collide"):
        yield f"legacy: {name}", (".pth", lambda name=name: legacy(PICKLES[name]()))
    yield "legacy: five long ones", (".pth", lambda: legacy(PICKLES["empty dicts"]()[: SIZE // 6] + b"."))
    for name, make in ZIPS.items():
        yield f"zip: {name}", (".pt", make)
    for name, make in HEADERS.items():
        yield f"header: {name}", (".safetensors", lambda make=make: safetensors(make()))
    for name, make in INDICES.items():
        yield f"index: {name}", (".index.json", lambda make=make: index(make()))


KINDS = dict(_kinds())
