from fractions import Fraction

import numpy as np
import pytest

from jax_interp.media.video.rates import frame_rate
from jax_interp.media.video.reader import open_video
from tests.media import clips

TICK = Fraction(1, 90_000)


def ticks(rate, indices, tick=TICK):
    return np.array([round(index / rate / tick) for index in indices], np.int64)


@pytest.mark.parametrize(
    "rate", [Fraction(24), Fraction(25), Fraction(24000, 1001), Fraction(60000, 1001), Fraction(25, 2)]
)
def test_a_stated_rate_that_keeps_step_holds(rate):
    assert frame_rate((rate, 2 * rate), ticks(rate, range(50)), TICK) == rate


def test_lost_frames_do_not_change_the_rate():
    kept = [index for index in range(34) if index != 7]
    assert frame_rate((None, Fraction(25)), ticks(Fraction(25), kept), TICK) == 25
    assert frame_rate((Fraction(25),), ticks(Fraction(25), [0, *range(5, 42)]), TICK) == 25


def test_a_rate_of_which_half_the_frames_are_missing_does_not_hold():
    assert frame_rate((Fraction(48),), ticks(Fraction(24), range(50)), TICK) == 24


def test_times_off_the_grid_give_the_mean():
    times = np.array([0, 40, 80, 160, 200, 330, 370, 410, 500], np.int64)
    assert frame_rate((Fraction(25),), times, Fraction(1, 1000)) == 16


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30000, 1001)])
def test_without_a_stated_rate_rounded_times_give_the_whole_or_ntsc_rate(rate):
    times = ticks(rate, range(2000), Fraction(1, 1000))
    assert frame_rate((None, None), times, Fraction(1, 1000)) == rate


def test_what_matroska_rounds_is_made_whole_again():
    assert frame_rate((Fraction(19001, 317),), ticks(Fraction(60000, 1001), range(9)), TICK) == Fraction(60000, 1001)


def test_without_time_stamps_the_streams_own_rate_counts():
    nothing = np.zeros(0, np.int64)
    assert frame_rate((Fraction(25), Fraction(24)), nothing, TICK) == 24
    assert frame_rate((None, None), nothing, TICK) is None


@pytest.mark.parametrize("share", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
@pytest.mark.parametrize("options", [{"g": "10"}, {"g": "12", "x264-params": "open-gop=1"}])
def test_a_broadcast_joined_in_the_middle_keeps_its_rate(tmp_path, share, options):
    path = clips.encode(tmp_path / "joined.ts", clips.waves(60), rate=25, options=options)
    data = path.read_bytes()
    path.write_bytes(data[: 3 * 188] + data[int(share * len(data) // 188) * 188 :])
    assert open_video(path).fps == 25
