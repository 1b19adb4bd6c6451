"""Uploads that claim, or are, more than a server takes, and files that are no clips: a message; the server goes on."""

import contextlib
import io
import socket
import struct
import time
import zlib
from pathlib import Path

import av
import numpy as np
import pytest

from jax_interp.app.web.upload_room import UploadRoom
from tests import golden
from tests.app.copying import Hostile, pair, picture
from tests.media.pictures.test_header import png_chunk, png_of

MEGABYTE = 1_000_000
LIMIT = 2 * MEGABYTE
PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="%d.png"\r\nContent-Type: image/png\r\n\r\n'


@pytest.fixture
def user(copier):
    user = Hostile(copier.address)
    yield user
    job = user.call("submit", user.upload(*pair(4)), {})["job"]
    assert user.wait(job)["state"] == "done"  # the server goes on


def lying(copier):
    """Return the bytes of all uploads that are there."""
    return sum(path.stat().st_size for path in (copier.folder / "uploads").rglob("*") if path.is_file())


def send(copier, pieces=(), wait=8.0, **headers):
    """Send an upload in `pieces` until the server no longer takes them; return what it says, and the bytes it took."""
    host, port = copier.address.removeprefix("http://").split(":")
    head = {"Host": f"{host}:{port}", "Content-Type": "multipart/form-data; boundary=x", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in head.items())
    sent, said = 0, b""
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(f"POST /gradio_api/upload HTTP/1.1\r\n{lines}\r\n".encode())
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                connection.sendall(piece)
                sent += len(piece)
            while more := connection.recv(1 << 16):
                said += more
    return said, sent


def chunks(contents):
    return (b"%x\r\n%s\r\n" % (len(content), content) for content in contents)


def test_a_claim_of_10_gigabytes_is_refused_before_anything_is_sent(copier, user):
    before = lying(copier)
    for length in (10_000_000_000, LIMIT * 2, 10**17):
        said, _ = send(copier, Content_Length=length)
        assert said.startswith(b"HTTP/1.1 413 ")
        assert b"uploads may have 2 MB" in said
    for length in ("-1", "1e10", "0x10", "9" * 30, "1, 2"):
        assert send(copier, Content_Length=length)[0].startswith(b"HTTP/1.1 400 ")
    assert lying(copier) == before


def one_file():
    yield PART % 0
    yield from [bytes(65536)] * 4000


def many_files():
    for number in range(400):
        yield PART % number
        yield bytes(MEGABYTE)
        yield b"\r\n"


def one_field():
    yield b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\n'
    yield from [bytes(65536)] * 4000


def one_header():
    yield b"--x\r\nContent-Disposition: "
    yield from [b"a" * 65536] * 4000


@pytest.mark.parametrize("contents", [one_file, many_files, one_field, one_header])
def test_a_body_without_end_is_cut_off_and_leaves_nothing(copier, user, contents):
    before, most = lying(copier), copier.memory("VmHWM")
    said, sent = send(copier, chunks(contents()), Transfer_Encoding="chunked")
    assert said[:13] in (b"HTTP/1.1 413 ", b"HTTP/1.1 400 ", b"")  # what was said can be lost with the connection
    assert sent < 30 * MEGABYTE  # of 260 to 400 MB: what the sockets hold, and the limit
    time.sleep(0.2)
    assert lying(copier) == before
    assert copier.memory("VmHWM") - most < 60 * MEGABYTE


def test_a_call_without_end_is_cut_off(copier, user):
    answer = user.send("call/plan", b'{"data": ["' + b"a" * MEGABYTE + b'"]}')
    assert (answer.status_code, "too large" in answer.text) == (413, True)


def test_an_upload_that_is_broken_off_leaves_nothing(copier, user):
    before = lying(copier)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            send(copier, [PART % 0, bytes(300_000)], wait=0.2, Content_Length=MEGABYTE)
    end = time.monotonic() + 10
    while lying(copier) != before:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_uploads_on_their_way_take_room(tmp_path):
    (tmp_path / "uploads/0").mkdir(parents=True)
    (tmp_path / "uploads/0/a.png").write_bytes(bytes(4))
    room = UploadRoom(tmp_path / "uploads", most_bytes=1)
    assert room.has(6)
    assert not room.has(7)
    with room.taken(5):
        (tmp_path / "uploads/tmp1").write_bytes(b"")
        assert room.has(1)
        assert not room.has(2)
        with room.taken(1):
            assert not room.has(1)
        assert (tmp_path / "uploads/tmp1").exists()  # it may be another's, who is not done
    assert room.has(6)
    assert [path.name for path in (tmp_path / "uploads").rglob("*")] == ["0", "a.png"]


def video(frames, size=16, kind="mp4"):
    """Return a video of so many grey frames."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream("mpeg4" if kind != "gif" else "gif", rate=24)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p" if kind != "gif" else "rgb8"
        if not frames:
            container.start_encoding()
        for number in range(frames):
            grey = np.full((size, size, 3), number % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def sound_alone():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def tiff_of(width, height):
    """Return a TIFF that claims a size, and has one byte of pixels."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (279, 4, 1)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


CLIP = golden.CLIP.read_bytes()
DAMAGED = {
    "empty": ("a.mp4", b"", "is empty"),
    "text": ("a.mp4", b"#EXTM3U\n#EXT-X-STREAM-INF\nfile:///etc/passwd\n", "cannot be read as a video"),
    "list": ("a.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n", "cannot be read as a video"),
    "zeros": ("a.mp4", bytes(10_000), "cannot be read as a video"),
    "cut": ("a.mp4", CLIP[: len(CLIP) // 2], "cut off|cannot be read|damaged"),
    "no frames": ("a.mp4", video(0), "holds no video stream"),
    "one frame": ("a.mp4", video(1), "holds 1 frame"),
    "sound alone": ("a.mp4", sound_alone(), "holds no video stream"),
    "one picture": ("a.png", picture(5), "one picture; interpolation needs at least two"),
    "no picture": ("a.png", b"no picture", "cannot be read as a"),
    "giant picture": (
        "a.png",
        png_of(60_000, 60_000, png_chunk(b"IDAT", zlib.compress(bytes(1000)))),
        "pixels at most",
    ),
    "giant tiff": ("a.tiff", tiff_of(2**31, 2**31), "pixels at most|cannot be read"),
    "giant animation": (
        "a.gif",
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + video(3, kind="gif")[10:],
        "damaged at frame 0",
    ),
    "bomb of text": (
        "a.png",
        png_of(16, 16, png_chunk(b"zTXt", b"C\0\0" + zlib.compress(bytes(64 << 20)))),
        "cannot be read",
    ),
    "endless": ("a.mp4", video(1200), "1000 are interpolated at most"),
    "program": ("a.exe", b"MZ", "expected a video or pictures"),
    "page": ("a.html", b"<script>", "expected a video or pictures"),
    "drawing": ("a.svg", b"<svg/>", "expected a video or pictures"),
    "no suffix": ("a", CLIP, "expected a video or pictures"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_no_clip_is_a_message(copier, name):
    user, most = Hostile(copier.address), copier.memory("VmHWM")
    file, content, message = DAMAGED[name]
    files = user.upload((file, content))
    for call in ("plan", "submit"):
        with pytest.raises(RuntimeError, match=message) as refused:
            user.call(call, files, {})
        assert "Traceback" not in str(refused.value)
    assert user.call("jobs") == []
    assert copier.memory("VmHWM") - most < 100 * MEGABYTE


def test_one_damaged_picture_of_many_is_named(user):
    files = user.upload(*pair(6), ("broken.png", b"no picture"))
    with pytest.raises(RuntimeError, match=r"broken\.png"):
        user.call("submit", files, {})
    sizes = user.upload(*pair(6), ("other.png", picture(8, width=32)))
    with pytest.raises(RuntimeError, match=r"other\.png"):
        user.call("submit", sizes, {})


NAMES = ["../../../evil.png", "/etc/evil.png", "..\\evil.png", "%2e%2e%2fevil.png", "a\nb.png", "a\0b.png", ".png"]
NAMES += ["x" * 400 + ".png", "-rf.png", "$(id).png", "~root.png", "CON.png", "\u202egnp.exe.png", "[red]é.png"]


def test_names_stay_in_the_folder(copier, user):
    def others():
        return {path for path in copier.folder.parent.rglob("*") if copier.folder / "uploads" not in path.parents}

    before, uploads = others(), (copier.folder / "uploads").resolve()
    for name in NAMES:
        [file] = user.upload((name, picture(9)))
        path = Path(file["path"])
        assert path.resolve() == path
        assert path.parent.parent == uploads
        assert path.read_bytes() == picture(9)
    assert others() == before
