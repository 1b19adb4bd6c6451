"""The frames that a clip is continued from."""

import numpy as np
import pytest

from jax_interp.errors import UsageError
from jax_interp.media.last_frames import given_frames
from tests import golden

CLIP = np.arange(3 * 16 * 16 * 3).reshape(3, 16, 16, 3).astype(np.uint8)


def test_the_last_ones_are_taken():
    assert np.array_equal(given_frames(CLIP, 2), CLIP[1:])
    assert np.array_equal(given_frames(CLIP[0], 1), CLIP[:1])


def test_what_is_transparent_is_laid_over_white():
    """Levels of the golden picture that are opaque stay, those that are transparent are white."""
    rgba = golden.load("inputs", golden.VIDEO2WORLD)["image_rgba"]
    [over] = given_frames(rgba, 1)
    assert over.shape == (60, 52, 3)
    assert np.array_equal(over[rgba[..., 3] == 255], rgba[rgba[..., 3] == 255][:, :3])
    assert (over[rgba[..., 3] == 0] == 255).all()


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (CLIP[:0], "has 0 frame"),
        (CLIP[:, :8], "8×16 pixels, too small"),
        (CLIP.astype(np.float32), "frames are float32"),
        (CLIP[..., :2], "a fourth channel is opacity"),
    ],
)
def test_what_cannot_be_continued(frames, message):
    with pytest.raises(UsageError, match=message):
        given_frames(frames, 1)
