"""Sizes for pictures of any shape: the nearest of upstream's, circles round, padding cropped back."""

import numpy as np
import pytest

from jax_interp.errors import UsageError
from jax_interp.media.fit import crop, fit
from jax_interp.media.shape import DEFAULT_SIZE, UPSTREAMS_SIZES, Aspect, Size, choose_shape, nearest_size


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (Size(1080, 1920), Size(704, 1280)),
        (Size(1920, 1080), Size(1280, 704)),
        (Size(480, 640), Size(704, 960)),
        (Size(640, 480), Size(960, 704)),
        (Size(500, 500), Size(960, 960)),
        (Size(800, 1920), Size(704, 1280)),
    ],
)
def test_the_nearest_of_upstreams_sizes(source, expected):
    assert nearest_size(source) == expected


@pytest.mark.parametrize("source", [Size(1080, 1920), Size(1920, 1080), Size(577, 719), Size(300, 301), Size(90, 1000)])
def test_a_picture_keeps_its_shape_and_fills_one_side(source):
    shape = choose_shape(Aspect(keep=True), source, DEFAULT_SIZE)
    assert shape.network in UPSTREAMS_SIZES
    assert shape.inner.height == shape.network.height or shape.inner.width == shape.network.width
    assert shape.inner.width / shape.inner.height == pytest.approx(source.width / source.height, rel=0.02)
    assert shape.inner.height % 2 == shape.inner.width % 2 == 0
    assert shape.top * 2 + shape.inner.height in (shape.network.height, shape.network.height - 1)


def test_stretching_is_upstreams_way():
    shape = choose_shape(Aspect(), Size(100, 100), Size(64, 96))
    picture = np.zeros((100, 100, 3), np.uint8)
    assert fit(picture, shape) is picture
    assert not shape.is_cropped
    assert shape.inner == Size(64, 96)


def test_a_size_that_is_asked_for_is_the_networks():
    assert choose_shape(Aspect(keep=True), Size(100, 100), Size(64, 96)).network == Size(64, 96)
    assert choose_shape(Aspect(keep=True, size=Size(96, 96)), Size(100, 100), Size(64, 96)).inner == Size(96, 96)


def test_edges_are_reflected_and_cropped_back():
    picture = np.arange(8 * 4 * 3, dtype=np.uint8).reshape(8, 4, 3)
    shape = choose_shape(Aspect(keep=True), Size(8, 4), Size(8, 8))
    given = fit(picture, shape)
    assert given.shape == (8, 8, 3)
    assert np.array_equal(given[:, 2:6], picture)
    assert np.array_equal(given[:, 1], picture[:, 1])
    assert np.array_equal(given[:, 6], picture[:, 2])
    assert np.array_equal(crop(given[None], shape)[0], picture)


def test_a_circle_stays_round():
    y, x = np.mgrid[:180, :320]
    circle = np.where((y - 90) ** 2 + (x - 160) ** 2 < 60**2, 255, 0).astype(np.uint8)
    shape = choose_shape(Aspect(keep=True), Size(180, 320), Size(128, 192))
    inside = crop(fit(np.repeat(circle[..., None], 3, -1), shape)[None], shape)[0, ..., 0] > 127
    height, width = np.ptp(np.flatnonzero(inside.any(1))), np.ptp(np.flatnonzero(inside.any(0)))
    assert abs(int(height) - int(width)) <= 1


@pytest.mark.parametrize("text", ["16:9", "960", "704x", "0x704", "1000x704", "wide", "960 x 704"])
def test_what_is_no_shape(text):
    with pytest.raises(UsageError, match=rf"--aspect {text}: expected auto, stretch, or the network's .*1280x704"):
        Aspect.parse(text)


def test_what_is_a_shape():
    assert Aspect.parse("auto") == Aspect(keep=True)
    assert Aspect.parse("stretch") == Aspect()
    assert Aspect.parse("960x704") == Aspect(keep=True, size=Size(704, 960))
