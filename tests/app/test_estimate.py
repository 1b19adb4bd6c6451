"""What a job will take follows from its plan and from the speed of jobs before it."""

import pytest

from jax_interp.app.asked import Asked
from jax_interp.app.estimate import foresee, in_words, loading_seconds, seconds_of, waiting_seconds
from jax_interp.errors import MediaError, UsageError
from tests import golden
from tests.app.conftest import add, with_limits

CLIP = (golden.CLIP,)


def test_a_plan_has_pairs_frames_and_work(app):
    asked = Asked(steps=3)
    foreseen = foresee(asked, CLIP, app)
    given = foreseen.given
    assert foreseen.pairs == given - 1
    assert foreseen.frames == 9 * (given - 1) + 1
    assert (foreseen.size, foreseen.rate, foreseen.at_most) == ("96x64", 24.0, False)
    assert foreseen.work == pytest.approx((given - 1) * 64 * 96 * 10 * 3 / 1e6)
    assert foresee(Asked(steps=3, guidance=7.0), CLIP, app).work == pytest.approx(2 * foreseen.work)


def test_the_inputs_own_frames_need_no_network(app):
    foreseen = foresee(Asked(rate="source"), CLIP, app)
    assert (foreseen.pairs, foreseen.frames, foreseen.work) == (0, foreseen.given, 0)


def test_twice_the_rate_lasts_as_long_as_the_clip(app):
    foreseen = foresee(Asked(rate="2x"), CLIP, app)
    assert foreseen.frames == 2 * foreseen.given
    assert foreseen.seconds == pytest.approx(foreseen.frames / foreseen.rate)


def test_long_jobs_are_refused_with_what_to_do(app):
    with pytest.raises(UsageError, match="give a shorter clip"):
        foresee(Asked(), CLIP, with_limits(app, pairs=1))
    with pytest.raises(UsageError, match="choose a lower rate"):
        foresee(Asked(slow_motion="1000", rate="1000"), CLIP, app)


def test_a_damaged_file_is_named(app, tmp_path):
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"\0" * 1000)
    with pytest.raises(MediaError, match=r"damaged\.mp4"):
        foresee(Asked(), (damaged,), app)


def test_minutes_come_from_the_latest_job_of_the_same_kind(office):
    store = office.store
    assert seconds_of(10, Asked(), store.measured()) is None
    assert loading_seconds(store) is None
    add(store, "1" * 32, work_seconds=2.0, start_seconds=7.0)
    add(store, "2" * 32, asked=Asked(precision="int8"), work_seconds=1.0, start_seconds=8.0)
    add(store, "3" * 32)
    assert seconds_of(10, Asked(), store.measured()) == 20
    assert seconds_of(10, Asked(precision="int8"), store.measured()) == 10
    assert seconds_of(10, Asked(pipeline="continue"), store.measured()) is None
    assert loading_seconds(store) == 8.0


def test_the_wait_is_that_for_what_is_left_of_the_others(office):
    done = add(office.store, "1" * 32, work_seconds=2.0)
    half = add(office.store, "2" * 32, work=10, share=0.5)
    assert waiting_seconds([half], [done]) == 10
    assert waiting_seconds([half], []) is None
    assert waiting_seconds([], []) == 0


def test_durations_in_words():
    assert [in_words(seconds) for seconds in (0.2, 42, 100, 7200)] == ["1 s", "42 s", "2 min", "2.0 h"]


def test_frames_that_fill_no_pair_are_counted_and_pairs_are_not_overstated(app):
    whole = foresee(Asked(rate="2x"), CLIP, app)
    assert (whole.left_out, whole.pairs, whole.at_most) == (0, whole.given - 1, True)
    stride = whole.given // 2 + 1
    coarse = foresee(Asked(rate="2x", frame_stride=stride), CLIP, app)
    assert (coarse.left_out, coarse.pairs) == (whole.given - 1 - stride, 1)
