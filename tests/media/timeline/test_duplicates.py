"""Frames that count as the same."""

from itertools import pairwise

import numpy as np
import pytest

from jax_interp.media.reader import open_frames
from jax_interp.media.timeline.duplicates import is_duplicate
from tests.media import clips, film_clips


def test_a_repeated_frame_is_one_also_after_encoding(tmp_path):
    path = clips.encode(tmp_path / "a.mp4", film_clips.on_twos(12, 96, 128), options={"crf": "28"})
    frames = list(open_frames([path]))
    same = [is_duplicate(first, second) for first, second in pairwise(frames)]
    assert same == [True, False] * 5 + [True]


@pytest.mark.parametrize(("height", "width"), [(96, 128), (17, 33), (5, 7)])
def test_a_small_motion_anywhere_is_another_frame(height, width, rng):
    first = rng.integers(0, 255, (height, width, 3), np.uint8)
    assert is_duplicate(first, first.copy())
    for y, x in ((0, 0), (height - 4, width - 4), (height // 2, width // 2)):
        other = first.copy()
        other[y : y + 4, x : x + 4] ^= 255
        assert not is_duplicate(first, other)


def test_grain_is_not_a_motion(rng):
    first = rng.integers(20, 230, (96, 128, 3), np.uint8)
    noisy = np.clip(first + rng.normal(0, 1.5, first.shape), 0, 255).astype(np.uint8)
    assert is_duplicate(first, noisy)
