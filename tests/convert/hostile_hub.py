"""Hubs that are broken or hostile: a table of what they answer, and what the program has to say to it.

A mode answers the requests for the bytes of a file, `/cdn/…`; the other requests are answered as ever.
"""

import gzip
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from tests.convert.fake_hub import MEMBER, Handler

DATA = bytes(range(256)) * 400
"""The file that is fetched."""
SIZE = len(DATA)
PIECE = bytes(4096)
PAGE = b"<html>Please sign in to the hotel's network.</html>"


@dataclass(frozen=True)
class Mode:
    answer: Callable[[Handler], None]
    says: str
    """Part of the message; empty if the file arrives whole all the same."""
    times: int = 10**9
    """Answer so often, then honestly."""
    begun: int = 0
    """Bytes of the file that are there from an earlier run."""
    slow: bool = False
    """Takes more than a second."""


def head(status: int, **headers: Any) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunks(*pieces: bytes, last: bool = True) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return body + (b"0\r\n\r\n" if last else b"")


def start_of(handler: Handler) -> int:
    """The first byte that is asked for."""
    return int((handler.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))


def raw(*pieces: bytes) -> Callable[[Handler], None]:
    return lambda handler: handler.raw(*pieces)


def endless(*pieces: bytes, piece: bytes = PIECE, pause: float = 0.0) -> Callable[[Handler], None]:
    return lambda handler: handler.raw(*pieces, forever=itertools.repeat(piece), pause=pause)


def status(code: int, body: bytes = b"", **headers: Any) -> Callable[[Handler], None]:
    return raw(head(code, Content_Length=len(body), **headers), body)


def trickle(*pieces: bytes) -> Callable[[Handler], None]:
    return endless(*pieces, piece=b"x", pause=0.05)


def slow(answer: Callable[[Handler], None]) -> Mode:
    return Mode(answer, "brought next to nothing in 0.5 seconds", slow=True)


def redirect(location: str) -> Callable[[Handler], None]:
    return status(302, Location=location)


def a_byte_at_a_time(handler: Handler) -> None:
    first = start_of(handler)
    headers = head(206, Content_Range=f"bytes {first}-{first}/{SIZE}", Content_Length=1)
    handler.raw(headers, DATA[first : first + 1])


def always_breaks(handler: Handler) -> None:
    """Half of the file, from the beginning, whatever is asked for."""
    handler.raw(head(200, Content_Length=SIZE), DATA[: SIZE // 2])


def breaks_early_and_late(handler: Handler) -> None:
    """A quarter and a half of the file in turn: half of the tries bring more than the one before."""
    share = 2 if len(handler.hub.transfers()) % 2 else 4
    handler.raw(head(200, Content_Length=SIZE), DATA[: SIZE // share])


def another_content(handler: Handler) -> None:
    """The file is replaced after its first bytes: what has arrived and the rest do not belong together."""
    first = start_of(handler)
    if handler.hub.transfers().count(("model.bin", None)) == 1 and not first:
        return handler.raw(head(200, Content_Length=SIZE, ETag='"one"'), PIECE)
    if not first:
        return handler.raw(head(200, Content_Length=SIZE, ETag='"two"'), DATA)
    headers = head(206, Content_Range=f"bytes {first}-{SIZE - 1}/{SIZE}", Content_Length=SIZE - first, ETag='"two"')
    return handler.raw(headers, DATA[first:])


def ranged(span: str, body: bytes = PIECE) -> Callable[[Handler], None]:
    return status(206, body, Content_Range=span)


TRANSFERS: dict[str, Mode] = {
    # too short
    "a short body of honest length": Mode(status(200, DATA[:10]), "ends after 10 of the 102400 bytes"),
    "a short body without length": Mode(raw(head(200), DATA[:10]), "ends after 10 of the 102400 bytes"),
    "a short body in chunks": Mode(
        raw(head(200, Transfer_Encoding="chunked"), chunks(DATA[:10])), "ends after 10 of the 102400 bytes"
    ),
    "an empty body": Mode(status(200), "ends after 0 of the 102400 bytes"),
    "an empty rest": Mode(ranged(f"bytes 100-{SIZE - 1}/{SIZE}", b""), "ends after 100 of the", begun=100),
    "one byte an answer": Mode(a_byte_at_a_time, "ends after 103 of the 102400 bytes", begun=100),
    "a login page": Mode(status(200, PAGE, Content_Type="text/html"), "a login page of the network"),
    "a login page in chunks, over a part": Mode(
        raw(head(200, Transfer_Encoding="chunked", Content_Type="text/html"), chunks(PAGE)), "(text/html)", begun=100
    ),
    "half of the file, always from the beginning": Mode(always_breaks, "What has arrived is kept"),
    "a quarter and a half of the file in turn": Mode(breaks_early_and_late, "What has arrived is kept"),
    "a login page, once": Mode(status(200, PAGE), "", times=1, begun=100),
    # too long
    "an endless body": Mode(endless(head(200)), "is longer than the 102400 bytes"),
    "an endless body in chunks": Mode(
        endless(head(200, Transfer_Encoding="chunked"), piece=chunks(PIECE, last=False)), "is longer than"
    ),
    "an endless rest": Mode(
        endless(head(206, Content_Range=f"bytes 100-{SIZE - 1}/{SIZE}")), "is longer than the 102400", begun=100
    ),
    "one byte too many": Mode(raw(head(200), DATA, b"!"), "is longer than the 102400 bytes"),
    "a length that is too large": Mode(status(200, DATA + b"!"), "has 102401 bytes, but the hub lists 102400"),
    "a length of petabytes": Mode(endless(head(200, Content_Length=10**16)), "has 10000000000000000 bytes"),
    "a total that is too large": Mode(ranged(f"bytes 100-{SIZE}/{SIZE + 1}"), "has 102401 bytes", begun=100),
    # too slow
    "a body that trickles": Mode(trickle(head(200)), "brought next to nothing in 0.5 seconds"),
    "chunks that trickle": slow(trickle(head(200, Transfer_Encoding="chunked"), b"5;")),
    "headers that trickle": slow(trickle(b"HTTP/1.1 200 OK\r\nX-Long: ")),
    "a status line that trickles": slow(trickle(b"HTTP/1.1 200 ")),
    "preliminary answers without end": slow(endless(piece=head(100), pause=0.05)),
    "silence": slow(endless(pause=60.0)),
    "silence behind the headers": slow(endless(head(200), pause=60.0)),
    "silence, once": Mode(endless(pause=60.0), "", times=1),
    # broken off
    "nothing at all": Mode(raw(), "the connection failed"),
    "no HTTP": Mode(raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "the connection failed"),
    "headers without end": Mode(endless(b"HTTP/1.1 200 OK\r\n", piece=b"X-Filler: y\r\n"), "the connection failed"),
    "a length that is no number": Mode(raw(head(200, Content_Length="many")), "the connection failed"),
    "a negative length": Mode(raw(head(200, Content_Length=-5)), "the connection failed"),
    "two lengths": Mode(raw(head(200, Content_Length=5, content_length=6), DATA), "the connection failed"),
    "chunks that are none": Mode(raw(head(200, Transfer_Encoding="chunked"), b"zz\r\n"), "the connection failed"),
    # ranges
    "no such range": Mode(status(416), "does not have the rest of the file (416)"),
    "no such range of the part": Mode(
        lambda handler: (status(416) if start_of(handler) else status(200, DATA))(handler), "", begun=100
    ),
    "another range": Mode(ranged(f"bytes 7-{SIZE - 1}/{SIZE}"), "is not the rest of the file", begun=100),
    "the whole file as a range": Mode(ranged(f"bytes 0-{SIZE - 1}/{SIZE}", DATA), "", begun=100),
    "another range of the part": Mode(
        lambda handler: (ranged(f"bytes 7-{SIZE - 1}/{SIZE}") if start_of(handler) else status(200, DATA))(handler),
        "",
        begun=100,
    ),
    "no range": Mode(status(206, DATA[100:]), "a part that is not named", begun=100),
    "a range backwards": Mode(ranged(f"bytes 100-50/{SIZE}"), "is not the rest of the file", begun=100),
    "a range that is none": Mode(ranged("bytes */0"), "is not the rest of the file", begun=100),
    "a total that is too small": Mode(ranged("bytes 100-199/200", DATA[100:200]), "ends after 200 of", begun=100),
    "the whole file instead of the rest": Mode(status(200, DATA), "", begun=100),
    "the rest, of unknown total": Mode(ranged(f"bytes 100-{SIZE - 1}/*", DATA[100:]), "", begun=100),
    "a file that is replaced meanwhile": Mode(another_content, ""),
    # compressed
    "a compressed body": Mode(status(200, gzip.compress(DATA), Content_Encoding="gzip"), "is compressed (gzip)"),
    "a compression bomb": Mode(
        status(200, gzip.compress(bytes(10**8)), Content_Encoding="gzip"), "is compressed (gzip), which was not asked"
    ),
    "compressed twice": Mode(status(200, b"x", Content_Encoding="gzip, br"), "is compressed (gzip, br)"),
    # redirects
    "a circle": Mode(lambda handler: redirect(handler.path)(handler), "redirects more than 10 times"),
    "a file of this machine": Mode(redirect("file:///etc/passwd"), "redirects to what is no address on the web"),
    "another protocol": Mode(redirect("ftp://localhost/model.bin"), "redirects to what is no address on the web"),
    "an address that is none": Mode(redirect("http://[::1"), "the hub's answer redirects"),
    "a redirect with an endless body": Mode(endless(head(302, Location="/cdn/again")), "redirects more than 10 times"),
    "a redirect to nowhere": Mode(status(302), "has the status 302"),
    # error statuses
    "overloaded, with seconds": Mode(status(429, Retry_After=1), "", times=1),
    "overloaded, with a date": Mode(
        lambda handler: status(503, Retry_After=formatdate(time.time() + 2, usegmt=True))(handler), "", times=1
    ),
    "overloaded, as the public hub says it": Mode(status(429, RateLimit='"api";r=0;t=1'), "", times=1),
    "overloaded until tomorrow": Mode(status(503, Retry_After=86400), "The hub asks to wait for 24 hours"),
    "overloaded for ever": Mode(status(429, Retry_After="9" * 5000), "The hub asks to wait for months"),
    "overloaded until a date far away": Mode(
        status(429, Retry_After="Fri, 31 Dec 9999 23:59:59 GMT"), "The hub asks to wait for months"
    ),
    "a wait that is none": Mode(status(503, Retry_After="soon"), "", times=2),
    "a date that is past": Mode(status(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), "", times=2),
    "a rate limit of thousands of digits": Mode(status(429, RateLimit=f'"api";r=0;t={"9" * 5000}'), "", times=2),
    "always in trouble": Mode(status(500), "in trouble (500)"),
    "an error with an endless body": Mode(endless(head(500)), "in trouble (500)"),
    "an error with a bomb": Mode(
        status(403, gzip.compress(bytes(10**8)), Content_Encoding="gzip"), "may not read this repository (403)"
    ),
    "an error of lists": Mode(status(410, b"[[]]", Content_Type="application/json"), "answers 410"),
    "a success without content": Mode(raw(head(204)), "has the status 204"),
    "not modified": Mode(raw(head(304)), "has the status 304"),
    # the token, sent back
    "the token in an error": Mode(status(410, X_Error_Message=f"{MEMBER} is unwanted"), "answers 410: <token> is"),
    "the token, encoded": Mode(status(410, X_Error_Message="/?%68f_membe%72&a=b"), "answers 410: /?<token>&a=b"),
    "the token in the status line": Mode(raw(f"HTTP/{MEMBER} 200 OK\r\n\r\n".encode()), "<token>"),
    "the token in a redirect": Mode(redirect(f"http://{MEMBER}@[::1/{MEMBER}"), "the hub's answer redirects"),
    "the token in a type": Mode(status(200, b"x", Content_Type=MEMBER), "(<token>)"),
    "the token in a range": Mode(ranged(MEMBER), "but <token>", begun=100),
    "the token in an encoding": Mode(status(200, b"x", Content_Encoding=MEMBER), "is compressed (<token>)"),
    "the token in a warning": Mode(status(200, DATA, X_HF_Warning=f"topic; {MEMBER}"), ""),
    "a terminal's commands": Mode(status(410, X_Error_Message="\x1b[2J\x07gone"), r"answers 410"),
}


def without(key: str) -> Callable[[dict], Any]:
    return lambda listing: {name: value for name, value in listing.items() if name != key}


def changed(**values: Any) -> Callable[[dict], Any]:
    return lambda listing: listing | values


def row(name: str = "model.bin", **values: Any) -> Callable[[dict], Any]:
    """The listing with other values for one file; None removes one."""

    def change(listing: dict) -> dict:
        rows = [entry | values if entry["rfilename"] == name else entry for entry in listing["siblings"]]
        return listing | {"siblings": [{k: v for k, v in entry.items() if v is not None} for entry in rows]}

    return change


def more(*rows: Any) -> Callable[[dict], Any]:
    return lambda listing: listing | {"siblings": [*listing["siblings"], *rows]}


LFS = {"sha256": "0" * 64, "size": SIZE, "pointerSize": 130}
LISTINGS: dict[str, tuple[Callable[[dict], Any], str]] = {
    # a function of the honest listing gives the body, as bytes or as what becomes JSON
    "a login page": (lambda _: PAGE, "is not JSON but text/plain"),
    "nothing": (lambda _: b"", "is not JSON"),
    "half of it": (lambda listing: json.dumps(listing).encode()[:-9], "is not JSON"),
    "no text": (lambda _: b"\xff\xfe\xfd", "is not JSON"),
    "a list": (lambda listing: [listing], "is a list"),
    "a text": (lambda _: "hello", "is a text"),
    "null": (lambda _: None, "is null"),
    "a number": (lambda _: 3, "is a number"),
    "nested without end": (lambda _: b"[" * 10**6, "is not JSON"),
    "a number of a million digits": (lambda _: b"9" * 10**6, "is not JSON"),
    "far too long": (lambda _: b" " * (2**22 + 1), "is longer than 4 MB"),
    "no id": (without("id"), "lacks `id`"),
    "no commit": (without("sha"), "lacks `sha`"),
    "no files": (without("siblings"), "lacks `siblings`"),
    "another id": (changed(id=7), "lacks `id`"),
    "a commit that leaves the folder": (changed(sha="../" * 12 + "abcd"), "lacks `sha`"),
    "a commit that is a number": (changed(sha=5), "lacks `sha`"),
    "files in an object": (changed(siblings={}), "lacks `siblings`"),
    "files that are no objects": (changed(siblings=["model.bin", 3, None, []]), "has no config.json, model.bin"),
    "files without names": (changed(siblings=[{"rfilename": 3}, {}]), "has no config.json, model.bin"),
    "no size": (row(size=None), "has no size for model.bin"),
    "neither size nor checksum": (row(size=None, blobId=None), "has no size for model.bin"),
    "no checksum": (row(blobId=None), "has no checksum for model.bin"),
    "an empty checksum": (row(blobId=""), "has no checksum for model.bin"),
    "a checksum that is none": (row(blobId="z" * 40), "has no checksum for model.bin"),
    "a big file without a checksum": (row(lfs={"size": SIZE}), "has no SHA-256 for model.bin"),
    "a big file's list": (row(lfs=[1]), "has no SHA-256 for model.bin"),
    "a SHA-256 of 63 digits": (row(lfs=LFS | {"sha256": "0" * 63}), "has no SHA-256 for model.bin"),
    "two sizes": (row(lfs=LFS | {"size": 5}), "has two sizes for model.bin: 102400 and 5 bytes"),
    "a negative size": (row(size=-1), "has -1 as the size of model.bin"),
    "a huge size": (row(size=10**300), "has 100000"),
    "a size in text": (row(size="102400"), "has '102400' as the size"),
    "half a byte": (row(size=0.5), "has 0.5 as the size"),
    "a size that is not a number": (row(size=float("nan")), "has nan as the size"),
    "a size that is true": (row(size=True), "has True as the size"),
    "a size that is a list": (row(size=[[]]), "has a list as the size"),
    "the same name twice": (
        more({"rfilename": "model.bin", "size": 1, "blobId": "0" * 40}),
        "model.bin more than once",
    ),
}

HARMLESS: dict[str, Callable[[dict], Any]] = {
    # files that nobody asked for, however they are called
    "names that leave the folder": more(
        *({"rfilename": name, "size": 3, "blobId": "0" * 40} for name in ("../x", "/etc/x", "a\\..\\x", "x\0y", "C:x"))
    ),
    "odd rows": more(None, 7, "x", [], {}, {"rfilename": None}, {"rfilename": "other", "size": "many"}),
    "odd facts about the repository": changed(gated="maybe", tags=3, cardData=[], lastModified="never", lfs={}),
}
