"""Measures by hand: PSNR of known errors, SSIM of equal and of unlike frames, and the parts of a picture."""

import numpy as np
import pytest

from jax_interp.evaluation.metrics import MOVING, moving_mask, psnr, ssim


@pytest.fixture
def truth():
    return np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3), np.uint8)


def half(height=24, width=32):
    mask = np.zeros((height, width), bool)
    mask[:, : width // 2] = True
    return mask


def test_places_that_move_differ_by_more_than_the_threshold():
    first = np.zeros((1, 3, 3), np.uint8)
    last = np.array([[[8, 8, 8], [9, 8, 8], [255, 0, 0]]], np.uint8)
    assert moving_mask(first, last).tolist() == [[False, True, True]]
    assert moving_mask(last, first).tolist() == [[False, True, True]]
    assert not moving_mask(first, last, 255).any()
    assert MOVING == 8


def test_psnr_by_hand():
    truth = np.zeros((8, 4, 4, 3), np.uint8)
    moving = np.zeros((4, 4), bool)
    assert psnr(truth + 255, truth, moving) == (0, None, 0)
    assert psnr(truth, truth, moving) == (None, None, None)
    moving[0, 0] = True
    made = truth.copy()
    made[:, 0, 0] = 51
    all_places, where_moving, still = psnr(made, truth, moving)
    assert where_moving == pytest.approx(20 * np.log10(5))
    assert all_places == pytest.approx(20 * np.log10(5) + 10 * np.log10(16))
    assert still is None


def test_fractions_of_levels_count():
    truth = np.zeros((1, 2, 2, 3), np.uint8)
    assert psnr(truth + 0.5, truth, np.ones((2, 2), bool)).all == pytest.approx(20 * np.log10(510))


def test_ssim_of_the_truth_is_one_and_of_other_frames_less(truth):
    assert ssim(truth, truth, half()) == pytest.approx((1, 1, 1), abs=1e-5)
    made = truth.copy()
    made[:, :, 16:] = 255 - made[:, :, 16:]
    whole, moving, still = ssim(made, truth, half())
    assert moving is not None
    assert still is not None
    assert still < -0.5 < 0.5 < moving < 1
    assert whole == pytest.approx((moving * 14 * 11 + still * 14 * 11) / (14 * 22), abs=1e-6)


def test_ssim_agrees_with_the_formula_where_a_frame_is_one_window():
    """Gaussian weights of sigma 1.5; means, variances and covariance of one 11x11 window, by numpy."""
    a, b = np.random.default_rng(1).uniform(0, 255, (2, 11, 11, 3))
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    weight = (np.outer(line, line) / line.sum() ** 2)[..., None]
    means = [(weight * frame).sum((0, 1)) for frame in (a, b)]
    variances = [(weight * frame**2).sum((0, 1)) - mean**2 for frame, mean in zip((a, b), means, strict=True)]
    covariance = (weight * a * b).sum((0, 1)) - means[0] * means[1]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = ((2 * means[0] * means[1] + c1) * (2 * covariance + c2)) / (
        (means[0] ** 2 + means[1] ** 2 + c1) * (variances[0] + variances[1] + c2)
    )
    found = ssim(a[None], b[None], np.ones((11, 11), bool))
    assert found.all == pytest.approx(expected.mean(), abs=1e-4)
    assert found.still is None


def test_frames_smaller_than_a_window_have_no_ssim():
    small = np.zeros((1, 10, 32, 3), np.uint8)
    assert ssim(small, small, half(10)) == (None, None, None)
