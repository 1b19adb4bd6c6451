"""Changes of bytes that make a damaged or hostile file of a valid one. Each takes a generator and the content."""

import io
import json
import pickletools
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[Random, bytes], bytes]

NUMBERS = [0, 1, -1, 7, 127, 128, 255, 256, *(1 << bits for bits in (15, 31, 61, 63))]
NUMBERS += [(1 << bits) - 1 for bits in (16, 31, 32, 61, 63, 64)]
"""At which lengths, places and counts go wrong."""

CANARY = "canary"
"""A file that a pickle which is executed makes in the current folder."""

ATTACK = b"cposix\nsystem\nX" + struct.pack("<I", 6 + len(CANARY)) + f"touch {CANARY}".encode() + b"\x85R"


def flip_bit(rng: Random, data: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def random_bytes(rng: Random, data: bytes) -> bytes:
    place, length = rng.randrange(len(data)), rng.choice([1, 1, 2, 4, 8, 50])
    return data[:place] + rng.randbytes(min(length, len(data) - place)) + data[place + length :]


def cut(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def delete(rng: Random, data: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + data[place + rng.choice([1, 2, 8, 100]) :]


def insert(rng: Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.choice([1, 2, 8, 100])) + data[place:]


def repeat(rng: Random, data: bytes) -> bytes:
    start = rng.randrange(len(data))
    part = data[start : start + rng.choice([1, 4, 30, 300])]
    return data[:start] + part * rng.choice([2, 2, 3, 1000]) + data[start + len(part) :]


def exchange(rng: Random, data: bytes) -> bytes:
    """Two runs of bytes change places."""
    first, second = sorted(rng.randrange(len(data)) for _ in range(2))
    length = min(rng.choice([1, 4, 16, 64]), second - first, len(data) - second)
    one, two = data[first : first + length], data[second : second + length]
    return data[:first] + two + data[first + length : second] + one + data[second + length :]


def number(rng: Random, data: bytes) -> bytes:
    """A number of 1, 2, 4 or 8 bytes anywhere."""
    width, place = rng.choice([1, 2, 4, 8]), rng.randrange(len(data))
    value = (rng.choice(NUMBERS) & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    return (data[:place] + value + data[place + width :])[: max(len(data), place + width)]


def noise(rng: Random, data: bytes) -> bytes:
    """Nothing of the file but its first bytes, by which its format is told."""
    return data[: rng.choice([0, 4, 16])] + rng.randbytes(rng.choice([1, 20, 500]))


ANYWHERE: list[Mutation] = [flip_bit, random_bytes, cut, delete, insert, repeat, exchange, number, noise]


def pickle_program(rng: Random, data: bytes) -> bytes:
    """Opcodes left out, repeated, exchanged, replaced, or inserted, among them a call of `os.system`."""
    try:
        places = [place for _, _, place in pickletools.genops(data)]
    except Exception:  # was changed before
        return flip_bit(rng, data)
    codes = [data[start:end] for start, end in zip(places, [*places[1:], len(data)], strict=True)]
    others = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
    for _ in range(rng.choice([1, 1, 2, 5])):
        place, other = rng.randrange(len(codes)), rng.randrange(len(codes))
        match rng.randrange(7):
            case 0:
                codes[place] = b""
            case 1:
                codes[place] *= rng.choice([2, 3, 500])
            case 2:
                codes[place], codes[other] = codes[other], codes[place]
            case 3:
                codes[place] = rng.choice(others) + codes[place][1:]
            case 4:
                codes[place] += rng.choice(others) + rng.randbytes(rng.choice([0, 1, 4]))
            case 5:
                codes[place] += ATTACK
            case 6:
                codes[place] = number(rng, codes[place]) if codes[place] else ATTACK
    return b"".join(codes)


def in_record(change: Mutation) -> Mutation:
    """`change` of the pickle of a zip archive, which is then packed with the right checksums: it is really read."""

    def repack(rng: Random, data: bytes) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as old:
                records = {info.filename: old.read(info) for info in old.infolist()}
        except Exception:
            return flip_bit(rng, data)
        name = next((name for name in records if name.endswith("data.pkl")), None) or rng.choice(list(records))
        records[name] = change(rng, records[name] or b"\0")
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as new:
            for key, content in records.items():
                new.writestr(key, content)
        return packed.getvalue()

    return repack


def zip_field(rng: Random, data: bytes) -> bytes:
    """A field of a local header, an entry of the directory, or the end of it."""
    signature = rng.choice([b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7"])
    starts = [place for place in range(len(data) - 3) if data[place : place + 4] == signature]
    if not starts:
        return flip_bit(rng, data)
    place = rng.choice(starts) + rng.randrange(46)
    return (
        number(rng, data)
        if place >= len(data)
        else data[:place] + number(rng, data[place : place + 8]) + data[place + 8 :]
    )


LEAVES: list[Any] = [None, True, False, 1.5, 1e308, 1e999, float("nan"), *NUMBERS, 10**400]
LEAVES += ["", "a\x1b[2J\n", "\ud800", "x" * 5000, [], {}, [[[[]]]], {"a": {"a": {}}}]


def json_value(rng: Random, data: bytes) -> bytes:
    """One value, key or entry of a JSON text is another; or a text that JSON does not allow."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):  # was changed before
        return flip_bit(rng, data)
    places = list(_places(content))
    if not places or rng.random() < 0.05:
        return rng.choice([b"[" * 5000, b"{}", b"[]", b"null", b'{"a":' * 3000, b"\xff\xfe", b'{"a":1,"a":2}'])
    container, key = rng.choice(places)
    match rng.randrange(6):
        case 0:
            del container[key]
        case 1 if isinstance(container, dict):
            container[rng.choice(["", "a\x1b[2J", "\ud800", "__metadata__", "x" * 5000, "0"])] = container.pop(key)
        case 2:
            other, place = rng.choice(places)
            if place in other if isinstance(other, dict) else place < len(other):
                container[key] = json.loads(json.dumps(other[place]))
        case 3:
            container[key] = [container[key]] * rng.choice([1, 3, 200])
        case _:
            container[key] = rng.choice(LEAVES)
    return json.dumps(content).encode()


def _places(content: Any) -> Any:
    """Every (container, key) of a value."""
    keys = content.keys() if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield content, key
        yield from _places(content[key])


def in_header(change: Mutation) -> Mutation:
    """`change` of the header of a safetensors file, whose length is then mostly the right one."""

    def rewrite(rng: Random, data: bytes) -> bytes:
        length = int.from_bytes(data[:8], "little")
        if not 0 < length <= len(data) - 8:
            return flip_bit(rng, data)
        header = change(rng, data[8 : 8 + length])
        stated = len(header) if rng.random() < 0.9 else rng.choice(NUMBERS) & ((1 << 64) - 1)
        return stated.to_bytes(8, "little") + header + data[8 + length :]

    return rewrite
