import av
import numpy as np
import pytest

from jax_interp.media.video.color import RGB, ColorConverter, Target
from tests.golden import psnr
from tests.media import clips

SATURATED = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (0, 255, 255),
    (255, 0, 255),
    (220, 170, 140),
    (0, 0, 0),
    (255, 255, 255),
]
MATRIX_CODES = {"bt709": 1, "smpte170m": 6, "bt2020": 9}


def bt709(red: int, green: int, blue: int) -> np.ndarray:
    """Y, Cb, Cr of ITU-R BT.709 in limited range, from the standard's three numbers."""
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    difference = np.array([(blue - luma) / 1.8556, (red - luma) / 1.5748])
    return np.array([16 + 219 * luma / 255, *(128 + 224 * difference / 255)])


@pytest.mark.parametrize("colour", SATURATED)
def test_rgb_becomes_bt709(colour):
    frame = np.broadcast_to(np.uint8(colour), (32, 32, 3)).copy()
    converted = ColorConverter(Target("yuv420p", bt709=True)).convert(av.VideoFrame.from_ndarray(frame, format="rgb24"))
    planes = [np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, -1)[4, 4] for plane in converted.planes]
    assert np.abs(np.array(planes, float) - bt709(*colour)).max() < 1
    assert (converted.colorspace, converted.color_range) == (1, 1)
    back = ColorConverter(RGB).convert(converted).to_ndarray()
    assert np.abs(back.astype(int) - frame).max() <= 2


@pytest.mark.parametrize("matrix", MATRIX_CODES)
@pytest.mark.parametrize("limited", [True, False])
def test_the_matrix_and_range_of_each_frame_are_obeyed(matrix, limited):
    frame = np.repeat(np.array(SATURATED, np.uint8)[None, :, None], 16, axis=2).reshape(1, -1, 3).repeat(16, axis=0)
    scale = f"out_color_matrix={matrix}:out_range={'tv' if limited else 'pc'}:flags=accurate_rnd"
    encoded = clips.convert(frame, "yuv444p", scale)
    encoded.colorspace, encoded.color_range = MATRIX_CODES[matrix], 1 if limited else 2
    back = ColorConverter(RGB).convert(encoded).to_ndarray()
    assert np.abs(back.astype(int) - frame).max() <= 2
    encoded.colorspace = 1 if matrix != "bt709" else 6
    wrong = ColorConverter(RGB).convert(encoded).to_ndarray()
    assert np.abs(wrong.astype(int) - frame).max() > 10, "the test must tell one matrix from another"


def test_subsampled_chroma_is_interpolated_and_unbiased():
    frame = clips.waves(1, 96, 128)[0]
    converted = ColorConverter(Target("yuv420p", bt709=True)).convert(av.VideoFrame.from_ndarray(frame, format="rgb24"))
    back = ColorConverter(RGB).convert(converted).to_ndarray()
    assert psnr(back, frame) > 48
    assert np.abs(back.astype(float) - frame).mean((0, 1)).max() < 1
    assert np.abs((back.astype(float) - frame).mean((0, 1))).max() < 0.15


def test_one_converter_follows_a_change_of_format():
    frame = clips.waves(1, 32, 32)[0]
    converter = ColorConverter(RGB)
    for pixel_format in ("rgb24", "gbrp", "rgb24", "bgr0"):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixel_format)
        assert np.array_equal(converter.convert(picture).to_ndarray(), frame)
