"""What a timeline may be asked for."""

from fractions import Fraction

import pytest

from jax_interp.errors import UsageError
from jax_interp.media.timeline.settings import Timeline

FILM = Fraction(24000, 1001)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("60", 60),
        ("59.94", Fraction(60000, 1001)),
        (59.94, Fraction(60000, 1001)),
        ("60000/1001", Fraction(60000, 1001)),
        (Fraction(25), 25),
        ("source", FILM),
        ("2x", 2 * FILM),
        ("2.5x", Fraction(5, 2) * FILM),
        (None, FILM),
    ],
)
def test_rates(rate, expected):
    assert Timeline(rate=rate).output_rate(FILM) == expected


@pytest.mark.parametrize("rate", ["24/0", "fast", "x2", "", "-2x", "2 x"])
def test_what_is_no_rate_says_what_is(rate):
    with pytest.raises(UsageError, match=r"--rate .*expected frames a second, as 24, 23\.976 or 24000/1001, source,"):
        Timeline(rate=rate)


@pytest.mark.parametrize("rate", ["0", "-24", 0, -1.0, "nan", "inf", "1001"])
def test_rates_out_of_range(rate):
    with pytest.raises(UsageError, match=r"--rate .*expected frames a second, from 0\.01 to 1000"):
        Timeline(rate=rate)


def test_a_multiple_of_nothing_and_one_that_is_too_much():
    with pytest.raises(UsageError, match="--rate 0x: expected a multiple of the source's rate above 0"):
        Timeline(rate="0x")
    with pytest.raises(UsageError, match=r"--rate 100x: is 2400 frames a second .* of 24; expected 0\.01 to 1000"):
        Timeline(rate="100x").output_rate(Fraction(24))


@pytest.mark.parametrize("value", [0, -2, 0.5, "fast", "4/0", "nan", 1001])
def test_slow_motion_out_of_range(value):
    with pytest.raises(UsageError, match=r"--slow-motion .*from 1 to 1000, as 4"):
        Timeline(slow_motion=value)


def test_defaults_are_upstreams_and_change_with_a_rate():
    assert not Timeline().follows_source
    assert not Timeline().original_keyframes
    assert Timeline(rate="source").follows_source
    assert Timeline(slow_motion="2.5").slowed == Fraction(5, 2)
    assert Timeline(slow_motion=2).original_keyframes
    assert not Timeline(rate=60, keyframes="decoded").original_keyframes


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("keyframes", "new", "--keyframes new: expected original or decoded"),
        ("duplicates", "drop", "--duplicates drop: expected keep or merge"),
        ("scene_cuts", "on", "expected 'auto', 'off', a Path or a tuple"),
    ],
)
def test_other_words_are_refused(name, value, message):
    with pytest.raises(UsageError, match=message):
        Timeline(**{name: value})
