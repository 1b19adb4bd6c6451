"""Which frames are shown together."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_interp.errors import UsageError
from jax_interp.evaluation.compare.timeline import align
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
