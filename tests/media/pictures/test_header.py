import contextlib
import io
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from jax_interp.errors import MediaError
from jax_interp.media.pictures import header
from jax_interp.media.pictures.header import is_picture, read_header
from tests.media import clips

PICTURE = Image.fromarray(clips.waves(1, 6, 8)[0])


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG that claims a size, with chunks of one's own between its header and its end."""
    ihdr = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + ihdr + b"".join(chunks) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.dat", "a"])
def test_a_picture_is_told_by_its_content(tmp_path, format, name):
    PICTURE.save(tmp_path / name, format=format)
    assert is_picture(tmp_path / name)
    found = read_header(tmp_path / name)
    assert (found.format, found.height, found.width, found.orientation, found.num_frames) == (format, 6, 8, 1, 1)
    assert not found.animated


def test_what_is_no_picture_is_not_called_one(tmp_path):
    (tmp_path / "a.png").write_text("text")
    (tmp_path / "empty.png").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.png")
    names = ("a.png", "empty.png", "pipe.png", "missing.png", ".")
    assert [is_picture(tmp_path / name) for name in names] == [False] * 5
    for name, reason in [("a.png", "as a picture"), ("empty.png", r"empty \(0 bytes\)"), ("pipe.png", "regular file")]:
        with pytest.raises(MediaError, match=rf"{name}: .*{reason}"):
            read_header(tmp_path / name)


def test_a_decoder_that_reads_other_kinds_is_not_let_at_a_file(tmp_path):
    PICTURE.save(tmp_path / "a.png", format="PPM")
    with pytest.raises(MediaError, match=r"a\.png: cannot be read as a picture"):
        read_header(tmp_path / "a.png")


@pytest.mark.parametrize("size", [(8193, 8192), (12000, 12000), (60000, 60000), (2**31 - 1, 2**31 - 1)])
def test_a_small_file_that_claims_a_huge_picture_is_refused_without_memory(tmp_path, size):
    (tmp_path / "bomb.png").write_bytes(png_of(*size, png_chunk(b"IDAT", zlib.compress(b"\0" * 1000))))
    tracemalloc.start()
    with pytest.raises(MediaError, match=r"bomb\.png: .*67,108,864 pixels at most"):
        read_header(tmp_path / "bomb.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_text_that_swells_is_refused(tmp_path):
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * (64 << 20)))
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0" * (6 * 25)))
    (tmp_path / "swells.png").write_bytes(png_of(8, 6, text, pixels))
    tracemalloc.start()
    with pytest.raises(MediaError, match=r"swells\.png: cannot be read as a picture"):
        read_header(tmp_path / "swells.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_a_file_that_is_too_long_is_refused(tmp_path, monkeypatch):
    PICTURE.save(tmp_path / "a.png")
    monkeypatch.setattr(header, "MAX_BYTES", 50)
    with pytest.raises(MediaError, match=r"a\.png: has \d+ bytes; a picture may have 50"):
        read_header(tmp_path / "a.png")


def test_damaged_metadata_turns_nothing(tmp_path):
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0" * (6 * 25)))
    for exif in (b"MM\0*", b"nothing", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0"):
        (tmp_path / "a.png").write_bytes(png_of(8, 6, png_chunk(b"eXIf", exif), pixels))
        assert read_header(tmp_path / "a.png").orientation == 1


@pytest.mark.parametrize("value", [0, 9, 700])
def test_an_orientation_that_makes_no_sense_turns_nothing(tmp_path, value):
    exif = Image.Exif()
    exif[0x0112] = value
    PICTURE.save(tmp_path / "a.jpg", exif=exif)
    assert read_header(tmp_path / "a.jpg").orientation == 1


@pytest.mark.parametrize("behind", [False, True])
def test_a_png_may_have_its_orientation_behind_its_pixels(tmp_path, behind):
    exif = Image.Exif()
    exif[0x0112] = 6
    chunks = [png_chunk(b"eXIf", exif.tobytes()[6:]), png_chunk(b"IDAT", zlib.compress(b"\0" * (6 * 25)))]
    (tmp_path / "a.png").write_bytes(png_of(8, 6, *(reversed(chunks) if behind else chunks)))
    found = read_header(tmp_path / "a.png")
    assert (found.orientation, found.height, found.width) == (6, 8, 6)


def test_pages_and_animations_are_counted(tmp_path):
    more = {"save_all": True, "append_images": [Image.fromarray(p) for p in clips.waves(3, 6, 8)[1:]]}
    counts = {}
    for name in ("a.webp", "a.png", "a.tif"):
        PICTURE.save(tmp_path / name, **more)
        found = read_header(tmp_path / name)
        counts[name] = (found.num_pictures, found.num_frames)
    PICTURE.save(tmp_path / "still.png", **more, default_image=True)
    found = read_header(tmp_path / "still.png")
    assert counts == {"a.webp": (3, 3), "a.png": (3, 3), "a.tif": (2, 1)}
    assert (found.num_pictures, found.num_frames) == (3, 2)


def test_a_photo_with_a_preview_inside_is_one_picture(tmp_path):
    PICTURE.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[PICTURE])
    assert read_header(tmp_path / "a.jpg").num_pictures == 1


def test_noise_is_read_or_refused_and_nothing_else(tmp_path):
    rng = np.random.default_rng(3)
    for format in ("PNG", "JPEG", "WEBP", "TIFF", "BMP"):
        buffer = io.BytesIO()
        PICTURE.save(buffer, format=format)
        for _ in range(40):
            data = bytearray(buffer.getvalue())
            for at in rng.integers(0, min(len(data), 80), 3):
                data[at] = rng.integers(256)
            (tmp_path / "noise").write_bytes(data)
            with contextlib.suppress(MediaError):
                assert read_header(tmp_path / "noise").height > 0
