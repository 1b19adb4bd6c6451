"""Which frames an output shows: by hand, and as properties of any input, rate, cuts and duplicates."""

from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_interp.media.timeline.clock import Clock
from jax_interp.media.timeline.nodes import MOST_MERGED, find_nodes
from jax_interp.media.timeline.pieces import Tally, find_pieces

MILLISECOND = Fraction(1, 1000)


def pieces_of(times, tick, period, *, steps=9, cuts=(), same=None, originals=True):
    """The pieces of a clip whose frames are their own numbers, and what was counted."""
    clock, tally = Clock.over(times, tick, period), Tally()
    frames = ((index, index in cuts) for index in range(len(times) - 1))
    is_duplicate = None if same is None else lambda first, index: same[first] == same[index]
    nodes = find_nodes(frames, times, clock, is_duplicate)
    return list(find_pieces(nodes, clock, steps, originals=originals, tally=tally)), clock, tally


def shown(pieces):
    """Every output frame as (first, last, step)."""
    return [(piece.first, piece.last, step) for piece in pieces for step, count in piece.shown for _ in range(count)]


def test_upstreams_pace_is_every_step_once():
    pieces, _, tally = pieces_of([0, 9, 18, 19], Fraction(1), Fraction(1), originals=False)
    assert [piece.shown for piece in pieces] == [
        tuple((step, 1) for step in range(10)),
        tuple((step, 1) for step in range(1, 10)),
    ]
    assert (tally.num_frames, tally.num_pairs, tally.largest_error) == (19, 2, 0)


def test_24_to_60():
    """Output frame j is at 0.4 j input frames; of ninths the nearest to .4 is 4, and to .8 is 7."""
    pieces, _, tally = pieces_of(list(range(7)), Fraction(1, 24), Fraction(1, 60))
    assert shown(pieces)[:6] == [(0, 1, 0), (0, 1, 4), (0, 1, 7), (1, 2, 2), (1, 2, 5), (1, 2, 9)]
    assert shown(pieces)[-3:] == [(4, 5, 7), (4, 5, 9), (4, 5, 9)]
    assert tally.num_frames == 15
    assert tally.largest_error == abs(Fraction(4, 10) - Fraction(4, 9)) * Fraction(60, 24)


def test_twice_as_slow_uses_the_middle():
    pieces, _, _ = pieces_of([0, 1, 2], Fraction(1, 24), Fraction(1, 48))
    assert shown(pieces) == [(0, 1, 0), (0, 1, 5), (0, 1, 9), (0, 1, 9)]


def test_a_lower_rate_shows_the_inputs_own_frames_and_interpolates_nothing():
    pieces, _, tally = pieces_of(list(range(7)), Fraction(1, 60), Fraction(1, 30))
    assert shown(pieces) == [(0, None, 0), (2, None, 0), (4, None, 0)]
    assert (tally.num_pairs, tally.largest_error) == (0, 0)


def test_decoded_frames_need_a_pair():
    pieces, _, tally = pieces_of(list(range(4)), Fraction(1, 60), Fraction(1, 30), originals=False)
    assert shown(pieces) == [(0, 1, 0), (1, 2, 9)]
    assert tally.num_pairs == 2


def test_no_pair_crosses_a_cut_and_the_frame_before_it_is_held():
    pieces, _, tally = pieces_of(list(range(5)), Fraction(1, 10), Fraction(1, 30), cuts={2})
    assert (
        shown(pieces)
        == [(0, 1, 0), (0, 1, 3), (0, 1, 6), *[(0, 1, 9)] * 3, (2, 3, 0), (2, 3, 3), (2, 3, 6)] + [(2, 3, 9)] * 3
    )
    assert tally.num_frames == 12


def test_a_scene_of_one_frame_is_shown_as_it_is_also_where_frames_are_decoded():
    for originals in (True, False):
        pieces, _, _ = pieces_of([0, 1, 2, 3], Fraction(1, 10), Fraction(1, 20), cuts={1, 2}, originals=originals)
        assert shown(pieces) == [(0, None, 0)] * 2 + [(1, None, 0)] * 2 + [(2, None, 0)] * 2


def test_animation_on_twos_becomes_pairs_of_two_frames():
    pieces, _, tally = pieces_of(list(range(7)), Fraction(1, 24), Fraction(1, 48), same=[0, 0, 1, 1, 2, 2])
    assert shown(pieces)[:9] == [
        (0, 2, 0),
        (0, 2, 2),
        (0, 2, 5),
        (0, 2, 7),
        (0, 2, 9),
        (2, 4, 2),
        (2, 4, 5),
        (2, 4, 7),
        (2, 4, 9),
    ]
    assert tally.merged == 3


def test_a_long_still_is_held_and_the_motion_after_it_keeps_its_length():
    still = [0] * (MOST_MERGED + 1) + [1, 2]
    pieces, _, _ = pieces_of(list(range(8)), Fraction(1, 24), Fraction(1, 48), same=still)
    assert shown(pieces)[:10] == [(0, 5, 0)] * 9 + [(0, 5, 5)]


def test_duplicates_are_not_merged_over_a_cut():
    pieces, _, _ = pieces_of([0, 1, 2, 3], Fraction(1, 10), Fraction(1, 10), same=[0, 0, 0], cuts={1})
    assert shown(pieces) == [(0, None, 0), (1, None, 0), (1, None, 0)]


@dataclass(frozen=True)
class Case:
    times: list[int]
    period: Fraction
    cuts: set[int]
    same: list[int]
    steps: int
    originals: bool

    def pieces(self):
        return pieces_of(
            self.times, MILLISECOND, self.period, steps=self.steps, cuts=self.cuts, same=self.same,
            originals=self.originals,
        )  # fmt: skip


@st.composite
def cases(draw):
    """Clips of variable frame rate with any cuts, duplicates and rates."""
    durations = draw(st.lists(st.integers(0, 120), min_size=1, max_size=24).filter(any))
    times = [start := draw(st.integers(-500, 500))]
    times += [start := start + each for each in durations]
    count = len(durations)
    rate = draw(st.fractions(Fraction(1, 2), 240, max_denominator=1001))
    slowed = draw(st.fractions(1, 12, max_denominator=8))
    return Case(
        times,
        1 / (rate * slowed),
        draw(st.sets(st.integers(1, count))),
        draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)),
        draw(st.sampled_from([1, 9, 17])),
        draw(st.booleans()),
    )


@settings(deadline=None, max_examples=100)
@given(cases())
def test_the_count_is_the_nearest_to_the_duration(case):
    pieces, clock, tally = case.pieces()
    duration = (case.times[-1] - case.times[0]) * MILLISECOND
    assert len(shown(pieces)) == tally.num_frames == clock.num_frames
    assert clock.num_frames == 1 or abs(clock.num_frames * case.period - duration) <= case.period / 2


@settings(deadline=None, max_examples=100)
@given(cases())
def test_order_never_goes_back(case):
    pieces, _, _ = case.pieces()
    order = [(first + step / case.steps * ((last or first) - first)) for first, last, step in shown(pieces)]
    assert order == sorted(order)
    assert [piece.index for piece in pieces] == list(range(len(pieces)))


def nominal(case, first, last, step):
    """The time in the input of what an output frame shows."""
    begin = case.times[first]
    return begin if last is None else begin + Fraction(step, case.steps) * (case.times[last] - begin)


@settings(deadline=None, max_examples=100)
@given(cases())
def test_errors_are_bounded_and_no_moment_leaves_its_pair(case):
    """Without holds: what is shown is at most half a step away, and the largest distance is the one that is counted."""
    case = Case(case.times, case.period, set(), list(range(len(case.same))), case.steps, case.originals)
    pieces, clock, tally = case.pieces()
    largest = Fraction(0)
    for number, (first, last, step) in enumerate(shown(pieces)):
        moment = case.times[0] + number * case.period / MILLISECOND
        assert 0 <= step <= (case.steps if last is not None else 0)
        if moment >= case.times[-2]:  # the last frame is held
            assert (first if last is None else last) == len(case.times) - 2 or last is None
            continue
        begin = max(time for time in case.times if time <= moment)
        until = min(time for time in case.times if time > moment)
        assert begin <= nominal(case, first, last, step) <= until
        error = abs(nominal(case, first, last, step) - moment)
        assert error <= Fraction(until - begin, 2 * case.steps)
        largest = max(largest, error)
    assert tally.largest_error == largest * MILLISECOND / case.period
    assert clock.num_frames == tally.num_frames


@settings(deadline=None, max_examples=100)
@given(cases())
def test_no_pair_crosses_a_cut_and_only_needed_pairs_are_computed(case):
    pieces, _, tally = case.pieces()
    for piece in pieces:
        assert piece.shown
        if piece.last is None:
            continue
        assert not {cut for cut in case.cuts if piece.first < cut <= piece.last}
        assert len(set(case.same[piece.first : piece.last])) == 1, "it spans duplicates of its first frame only"
        assert not case.originals or any(0 < step < case.steps for step, _ in piece.shown)
    assert tally.num_pairs == sum(piece.last is not None for piece in pieces)


@pytest.mark.parametrize("period", [Fraction(1, 60), Fraction(1001, 60000), Fraction(1, 48)])
def test_a_minute_of_film_is_counted_exactly(period):
    _, clock, tally = pieces_of(list(range(1441)), Fraction(1, 24), period)
    assert tally.num_frames == clock.num_frames == round(60 / period)
