import struct
import zlib
from typing import Any

import numpy as np
import pytest
from av.error import FFmpegError
from PIL import Image

from jax_interp.media.pictures.header import read_header
from jax_interp.media.pictures.pixels import (
    apply_orientation,
    composite_over_black,
    composite_over_white,
    read_pixels,
    to_eight_bits,
)
from tests.media import clips
from tests.media.pictures.test_header import png_chunk

ALL = np.arange(65536, dtype=np.uint16).reshape(256, 256)
"""Every value of 16 bits once."""

ROUNDED = np.array([round(value * 255 / 65535) for value in range(65536)], np.uint8).reshape(256, 256)


def deep_png(values: np.ndarray, *chunks: bytes) -> bytes:
    """A PNG of [Y, X, C] uint16, where C is 1 (gray), 2 (and alpha), 3 (RGB) or 4 (and alpha)."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    ihdr = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + ihdr + b"".join(chunks) + pixels + png_chunk(b"IEND", b"")


def deep_tiff(path, values: np.ndarray, orientation: int = 1, *, padding: bool = False) -> None:
    """An uncompressed little-endian TIFF of [Y, X, 3] uint16, or of 4 channels, the last of which means nothing."""
    height, width, channels = values.shape
    data = values.astype("<u2").tobytes()
    entries = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, channels, 8 + len(data)),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (274, 3, 1, orientation),
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
        *([(338, 3, 1, 0)] if padding else []),
    ]
    bits = struct.pack(f"<{channels}H", *[16] * channels)
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + b"\0" * 4
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data) + len(bits)) + data + bits + table)


def read(path):
    frame, transparent = read_pixels(path, read_header(path))
    assert frame.dtype == np.uint8
    assert frame.flags.c_contiguous
    return frame, transparent


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


EXPECTED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: np.rot90(x, 2),
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
    8: np.rot90,
}
"""What EXIF means by its eight orientations."""


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_value_of_sixteen_bits_is_rounded(tmp_path, channels):
    values = np.repeat(ALL[..., None], channels, -1)
    if channels in (2, 4):
        values[..., -1] = 65535
    if channels > 2:
        values[..., 1] = ALL[::-1]
    (tmp_path / "deep.png").write_bytes(deep_png(values))
    frame, transparent = read(tmp_path / "deep.png")
    assert not transparent
    assert np.array_equal(frame[..., 0], ROUNDED)
    assert np.array_equal(frame[..., 1], ROUNDED[::-1] if channels > 2 else ROUNDED)
    assert frame[0x12, 0xFF, 0] == 19


@pytest.mark.parametrize("orientation", EXPECTED)
def test_a_tiff_of_sixteen_bits_is_rounded_and_turned(tmp_path, orientation):
    values = np.repeat(ALL[:100, :, None], 3, -1)
    values[..., 2] = values[..., 2][:, ::-1]
    deep_tiff(tmp_path / "deep.tif", values, orientation)
    frame, _ = read(tmp_path / "deep.tif")
    truth = np.stack([ROUNDED[:100], ROUNDED[:100], ROUNDED[:100, ::-1]], -1)
    assert np.array_equal(frame, EXPECTED[orientation](truth))


@pytest.mark.parametrize("orientation", [0, 9])
def test_a_tiff_of_sixteen_bits_whose_orientation_makes_no_sense_is_not_turned(tmp_path, orientation):
    deep_tiff(tmp_path / "deep.tif", np.repeat(ALL[:100, :, None], 3, -1), orientation)
    assert np.array_equal(read(tmp_path / "deep.tif")[0][..., 0], ROUNDED[:100])


def test_a_fourth_channel_that_is_no_alpha_is_padding(tmp_path):
    values = np.repeat(ALL[:100, :, None], 4, -1)
    values[..., 3] = 7
    deep_tiff(tmp_path / "deep.tif", values, padding=True)
    frame, transparent = read(tmp_path / "deep.tif")
    assert not transparent
    assert np.array_equal(frame[..., 0], ROUNDED[:100])


@pytest.mark.parametrize("orientation", EXPECTED)
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_every_kind_is_turned_whatever_it_is_called(tmp_path, format, orientation):
    truth = clips.waves(1)[0]
    options = {"PNG": {}, "JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}, "TIFF": {}}[format]
    path = tmp_path / ("photo.jpg" if format == "PNG" else "photo.png")
    Image.fromarray(truth).save(path, format=format, exif=oriented(orientation), **options)
    frame, _ = read(path)
    expected = EXPECTED[orientation](truth)
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < (2 if format == "JPEG" else 1e-9)


@pytest.mark.parametrize("orientation", EXPECTED)
def test_turning_is_as_exif_says(orientation):
    picture = np.arange(12).reshape(2, 2, 3)
    assert np.array_equal(apply_orientation(picture, orientation), EXPECTED[orientation](picture))


def test_sixteen_bits_with_an_orientation_are_turned(tmp_path):
    exif = png_chunk(b"eXIf", oriented(6)[6:])
    (tmp_path / "a.png").write_bytes(deep_png(np.repeat(ALL[:9, :, None], 3, -1), exif))
    assert np.array_equal(read(tmp_path / "a.png")[0][..., 1], np.rot90(ROUNDED[:9], -1))


def over(colors, alpha, opaque=255):
    """Over black, rounded once."""
    return np.rint(colors.astype(float) * (alpha / opaque)[..., None]).astype(np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_what_is_transparent_is_laid_over_black(tmp_path, name):
    truth, alpha = clips.waves(1)[0], np.tile(np.arange(0, 256, 4, dtype=np.uint8), (clips.HEIGHT, 1))
    options: dict[str, Any] = {"lossless": True, "exact": True} if name == "a.webp" else {}
    Image.fromarray(np.dstack([truth, alpha])).save(tmp_path / name, **options)
    frame, transparent = read(tmp_path / name)
    assert transparent
    assert np.array_equal(frame, over(truth, alpha))
    Image.fromarray(np.dstack([truth, np.full_like(alpha, 255)])).save(tmp_path / name, **options)
    frame, transparent = read(tmp_path / name)
    assert not transparent
    assert np.array_equal(frame, truth)


def test_gray_with_alpha_palettes_and_one_colour_are_laid_over_black(tmp_path):
    gray, alpha = np.full((4, 4), 200, np.uint8), np.full((4, 4), 51, np.uint8)
    Image.fromarray(np.dstack([gray, alpha])).save(tmp_path / "gray.png")
    assert read(tmp_path / "gray.png")[0].max() == read(tmp_path / "gray.png")[0].min() == 40
    palette = Image.frombytes("P", (3, 1), b"\0\1\2")
    palette.putpalette([250, 10, 20, 100, 0, 0, 0, 50, 0])
    palette.save(tmp_path / "palette.png", transparency=bytes([0, 255, 255]))
    frame, transparent = read(tmp_path / "palette.png")
    assert transparent
    assert frame.tolist() == [[[0, 0, 0], [100, 0, 0], [0, 50, 0]]]
    palette.save(tmp_path / "entry.png", transparency=1)
    assert read(tmp_path / "entry.png")[0].tolist() == [[[250, 10, 20], [0, 0, 0], [0, 50, 0]]]
    Image.fromarray(np.array([[[9, 8, 7], [1, 2, 3]]], np.uint8)).save(tmp_path / "key.png", transparency=(9, 8, 7))
    assert read(tmp_path / "key.png")[0].tolist() == [[[0, 0, 0], [1, 2, 3]]]


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_of_sixteen_bits_is_laid_over_black(tmp_path, channels):
    values = np.repeat(ALL[::8, :, None], channels, -1)
    values[..., -1] = np.linspace(0, 65535, 256).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(deep_png(values))
    frame, transparent = read(tmp_path / "a.png")
    assert transparent
    exact = values[..., 0].astype(float) * values[..., -1] / 65535 / 257
    assert np.abs(frame[..., 0] - exact).max() <= 0.502


@pytest.mark.parametrize("channels", [1, 3])
def test_one_transparent_colour_of_sixteen_bits(tmp_path, channels):
    values = np.full((2, 2, channels), 0x12FF, np.uint16)
    values[0, 0] = 0xFF00
    key = png_chunk(b"tRNS", struct.pack(">H", 0xFF00) * channels)
    (tmp_path / "a.png").write_bytes(deep_png(values, key))
    frame, transparent = read(tmp_path / "a.png")
    assert transparent
    assert frame[0, 0].tolist() == [0] * 3
    assert frame[1, 1].tolist() == [19] * 3


def test_rounding_over_black():
    colors, alpha = np.array([[[255, 1, 0]]], np.uint8), np.array([[[128]]], np.uint8)
    assert composite_over_black(colors, alpha, 255)[0].tolist() == [[[128, 1, 0]]]
    deep, _ = composite_over_black(np.array([[[65535]]], np.uint16), np.array([[[65534]]], np.uint16), 65535)
    assert deep.dtype == np.uint16
    assert deep.item() == 65534
    assert to_eight_bits(np.array([[[128]], [[129]], [[65535]]], np.uint16))[:, 0, 0].tolist() == [0, 1, 255]


def test_a_damaged_picture_of_sixteen_bits_raises(tmp_path):
    rng = np.random.default_rng(0)
    data = deep_png(rng.integers(0, 65536, (40, 40, 3), np.uint16))
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises((OSError, SyntaxError, FFmpegError)):
        read(tmp_path / "a.png")


def test_white_shows_through_truncated_as_upstream_does():
    """Of 3/8 opaque colours: 5/8 of white, here 160, and 3/8 of 100 are 197.5; what is opaque stays."""
    colors = np.array([[[100, 0, 255]]], np.uint8)
    over, transparent = composite_over_white(colors, np.array([[[96]]], np.uint8), 256)
    assert transparent
    assert over.tolist() == [[[197, 160, 255]]]
    same, transparent = composite_over_white(colors, np.array([[[255]]], np.uint8), 255)
    assert not transparent
    assert same.tolist() == colors.tolist()
