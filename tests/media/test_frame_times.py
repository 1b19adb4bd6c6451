"""Times of frames: regular ones made exact, variable ones followed, a part of them chosen."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

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


def test_the_last_frame_lasts_as_long_as_its_file_says():
    regular, variable = np.array([0, 40, 80], np.int64), np.array([0, 33, 80], np.int64)
    for stated, on_grid, off_grid in [(None, 40, 40), (81, 40, 40), (99, 40, 40), (100, 40, 20), (600, 520, 520)]:
        assert seconds(frame_times(regular, MILLISECOND, Fraction(25), 3, stated))[-1] == Fraction(80 + on_grid, 1000)
        assert seconds(frame_times(variable, MILLISECOND, Fraction(25), 3, stated))[-1] == Fraction(80 + off_grid, 1000)


@pytest.mark.parametrize("times_ms", [[0, 100, 200, 300], [0, 100, 130, 300]])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_a_still_at_the_end_of_a_video_is_held(tmp_path, suffix, times_ms):
    """Screen recordings and slideshows end with one."""
    path = clips.encode(
        tmp_path / f"a.{suffix}", clips.ramp(4), rate=10, times_ms=times_ms, last_ms=1000, options={"bf": "0"}
    )
    times = open_frames([path]).times
    assert times is not None
    assert seconds(times) == [Fraction(each, 1000) for each in [*times_ms, 1300]]


def test_the_last_packet_of_an_mp4_says_nothing_of_another_frame(tmp_path):
    """With frames that lean on later ones it need not hold the frame that is shown last."""
    options = {"bf": "2", "b-adapt": "0", "x264-params": "rc-lookahead=3"}
    path = clips.encode(tmp_path / "a.mp4", clips.waves(6), rate=10, last_ms=1000, options=options)
    times = open_frames([path]).times
    assert times is not None
    assert seconds(times)[-2:] == [Fraction(5, 10), Fraction(6, 10)]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_an_animation_holds_its_last_frame(tmp_path, name):
    pictures = [Image.fromarray(frame) for frame in clips.ramp(4)]
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=[100, 100, 100, 1000])
    times = open_frames([tmp_path / name]).times
    assert times is not None
    assert seconds(times) == [Fraction(each, 10) for each in (0, 1, 2, 3, 13)]
