"""Which frames are shown together."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_interp.errors import UsageError
from jax_interp.evaluation.compare.timeline import align
from jax_interp.media.frame_times import FrameTimes
from jax_interp.media.source import FrameSource


def clip(num_frames, fps=None):
    return FrameSource(
        num_frames=num_frames,
        height=2,
        width=2,
        fps=None if fps is None else Fraction(fps),
        description={"path": f"{num_frames}.mp4"},
        read=lambda: iter([np.zeros((2, 2, 3), np.uint8)] * num_frames),
    )


def test_clips_of_one_rate_are_shown_frame_by_frame():
    moments = align([clip(4, 24), clip(5, 24)])
    assert (moments.alignment, moments.rate) == ("time", 24)
    assert moments.frames == ((0, 0), (1, 1), (2, 2), (3, 3))


def test_other_rates_are_shown_by_time():
    moments = align([clip(4, 24), clip(10, 60)])
    assert moments.rate == 60
    assert moments.frames == tuple((k * 24 // 60, k) for k in range(10))


def test_slow_motion_and_its_source_share_their_ends():
    moments = align([clip(3, 24), clip(19, 24)])
    assert (moments.alignment, len(moments.frames)) == ("ends", 19)
    assert [moments.frames[k] for k in (0, 9, 18)] == [(0, 0), (1, 9), (2, 18)]


def variable(ticks):
    """A clip whose frames begin at these milliseconds; the last number is its end."""
    times = FrameTimes(np.array(ticks), Fraction(1, 1000))
    return replace(clip(len(ticks) - 1, Fraction(1000 * (len(ticks) - 1), ticks[-1])), times=times)


def test_a_variable_rate_is_followed_by_its_time_stamps():
    phone = variable([0, 100, 300, 400])
    moments = align([phone, clip(8, 20)])
    assert (moments.alignment, moments.rate) == ("time", 20)
    assert [first for first, _ in moments.frames] == [0, 0, 1, 1, 1, 1, 2, 2]
    slow = align([phone, clip(16, 20)])
    assert slow.alignment == "ends"
    assert [first for first, _ in slow.frames] == [0] * 3 + [1] * 7 + [2] * 6, "the second one is shown for longest"
    backwards = align([clip(2, 24), phone], "ends")
    assert backwards.frames == ((0, 0), (0, 1), (1, 2))


def test_a_last_frame_that_is_held_counts_in_a_clips_length():
    held = variable([0, 100, 200, 300, 800])
    moments = align([replace(held, fps=Fraction(10)), clip(16, 20)])
    assert (moments.alignment, moments.rate, len(moments.frames)) == ("time", 20, 16)
    assert moments.frames == tuple((min(k // 2, 3), k) for k in range(16))


def test_pictures_have_the_rate_of_what_has_as_many_frames():
    assert align([clip(4), clip(4, 30)]).rate == 30
    assert align([clip(4), clip(4)]).alignment == "time"
    assert align([clip(2), clip(10, 24)]).alignment == "ends"
    with pytest.raises(UsageError, match=r"--align time: 2\.mp4 states no rate; leave --align out, or give videos"):
        align([clip(2), clip(10, 24)], "time")


@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=3),
    rates=st.lists(st.sampled_from([None, Fraction(24), Fraction(24000, 1001), Fraction(60)]), min_size=3, max_size=3),
    alignment=st.sampled_from(["auto", "ends"]),
)
def test_no_frame_is_asked_for_that_is_not_there_and_time_runs_forward(counts, rates, alignment):
    moments = align([clip(*each) for each in zip(counts, rates[: len(counts)], strict=True)], alignment)
    columns = list(zip(*moments.frames, strict=True))
    assert moments.rate > 0
    for column, count in zip(columns, counts, strict=True):
        assert column[0] == 0
        assert 0 <= column[-1] < count
        assert list(column) == sorted(column)
        assert moments.alignment == "time" or column[-1] == count - 1 or len(moments.frames) == 1
    if moments.alignment == "ends":
        assert len(moments.frames) == max(counts)
