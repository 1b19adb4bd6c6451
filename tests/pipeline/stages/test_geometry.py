"""Sizes that work and what is said about those that do not."""

from dataclasses import replace

import pytest

from jax_interp.config import CV8X8X8_720P, DIT_7B
from jax_interp.errors import UsageError
from jax_interp.pipeline.stages.geometry import allowed_video_frames, latent_shape


def shape(height=704, width=1280, num_video_frames=10):
    return latent_shape(DIT_7B, CV8X8X8_720P, height=height, width=width, num_video_frames=num_video_frames)


def test_upstreams_size():
    assert shape() == (3, 88, 160, 16)


def test_longer_pairs():
    assert shape(num_video_frames=18)[0] == 4
    assert allowed_video_frames(DIT_7B, CV8X8X8_720P) == list(range(10, 123, 8))


@pytest.mark.parametrize("size", [0, -16, 8, 700, 1936])
def test_sizes_that_do_not_divide_or_exceed_the_grid(size):
    with pytest.raises(UsageError, match=f"--height {size}: expected a multiple of 16 from 16 to 1920"):
        shape(height=size)


def test_the_nearest_size_is_named():
    with pytest.raises(UsageError, match=r"nearest: 704.*nearest: 1920"):
        shape(height=700, width=5000)


def test_a_default_that_small_networks_cannot_take_is_called_one():
    """Whoever gave no size does not know where 704 comes from."""
    small = replace(DIT_7B, grid=(DIT_7B.grid[0], 24, 24))
    with pytest.raises(UsageError) as caught:
        latent_shape(small, CV8X8X8_720P, height=704, width=400, num_video_frames=10)
    assert str(caught.value) == (
        "--height 704 (the default): these networks take a multiple of 16 from 16 to 384 (nearest: 384); give --height;"
        " --width 400: expected a multiple of 16 from 16 to 384 (nearest: 384)"
    )


@pytest.mark.parametrize("count", [1, 9, 11, 121, 130])
def test_frame_counts_that_do_not_work(count):
    with pytest.raises(UsageError, match=rf"--num-video-frames {count}: allowed are 10, 18, .*, 122"):
        shape(num_video_frames=count)
