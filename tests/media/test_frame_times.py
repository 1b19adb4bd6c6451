"""Times of frames: regular ones made exact, variable ones followed, a part of them chosen."""

from fractions import Fraction

import numpy as np
import pytest

from jax_interp.media.frame_times import FrameTimes
from jax_interp.media.reader import open_frames
from jax_interp.media.video.rates import frame_times
from tests.media import clips

MILLISECOND = Fraction(1, 1000)


def seconds(times):
    return [int(tick) * times.tick for tick in times.ticks]


def test_stamps_rounded_to_milliseconds_become_regular():
    """Matroska's: 24000/1001 frames a second in whole milliseconds."""
    rate = Fraction(24000, 1001)
    stamps = np.array([round(1000 * index / rate) for index in range(50)], np.int64)
    times = frame_times(stamps, MILLISECOND, rate, 50)
    assert seconds(times) == [index / rate for index in range(51)]
    assert not times.is_variable


def test_a_frame_that_is_missing_leaves_a_gap():
    stamps = np.array([0, 40, 80, 160, 200], np.int64)
    times = frame_times(stamps, MILLISECOND, Fraction(25), 5)
    assert seconds(times) == [Fraction(index, 25) for index in (0, 1, 2, 4, 5, 6)]
    assert times.is_variable


def test_variable_times_are_followed_and_the_origin_is_kept():
    stamps = np.array([1000, 1033, 1080, 1201], np.int64)
    times = frame_times(stamps, MILLISECOND, Fraction(15), 4)
    assert seconds(times) == [Fraction(each, 1000) for each in (0, 33, 80, 201, 268)]
    assert times.origin == 1


def test_without_a_stamp_for_each_frame_the_rate_counts():
    times = frame_times(np.array([0, 40], np.int64), MILLISECOND, Fraction(25), 3)
    assert seconds(times) == [Fraction(index, 25) for index in range(4)]


def test_a_part_ends_where_its_last_frame_does():
    times = FrameTimes(np.array([0, 1, 3, 6, 10, 15], np.int64), Fraction(1, 10), Fraction(2))
    part = times.selected(1, 2, 2)
    assert seconds(part) == [0, Fraction(5, 10), Fraction(9, 10)]
    assert part.origin == Fraction(21, 10)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_video_has_its_times(tmp_path, suffix):
    stamps = [0, 40, 95, 160, 200, 330]
    path = clips.encode(tmp_path / f"a.{suffix}", clips.ramp(6), rate=1000, times_ms=stamps)
    times = open_frames([path]).times
    assert times is not None
    assert seconds(times)[:6] == [Fraction(each, 1000) for each in stamps]
    assert open_frames([clips.encode(tmp_path / "b.mp4", clips.ramp(3))]).times is not None
