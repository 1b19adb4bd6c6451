"""--fps."""

from fractions import Fraction

import pytest

from jax_interp.cli.options.rate import Rate
from jax_interp.errors import UsageError


@pytest.mark.parametrize(
    ("text", "exact", "value"),
    [
        ("24", Fraction(24), 24.0),
        ("24.0", Fraction(24), 24.0),
        ("23.976", Fraction(24000, 1001), 23.976),
        ("24000/1001", Fraction(24000, 1001), 24000 / 1001),
        ("2997/125", Fraction(2997, 125), 23.976),
        (" 30/2 ", Fraction(15), 15.0),
        ("1e2", Fraction(100), 100.0),
        ("0.01", Fraction(1, 100), 0.01),
        ("1/100", Fraction(1, 100), 0.01),
        ("1000", Fraction(1000), 1000.0),
        ("999999999/999999998", Fraction(999999999, 999999998), 999999999 / 999999998),
    ],
)
def test_numbers_and_fractions(text, exact, value):
    assert Rate.parse(text) == (exact, value)


@pytest.mark.parametrize("text", ["", "fast", "24/0", "0/0", "24000/", "/1001", "1/2/3", "24,0", "-1/-2", "1.5/2"])
def test_what_is_no_rate(text):
    with pytest.raises(UsageError, match=r"expected frames a second, as 24, 23\.976 or 24000/1001"):
        Rate.parse(text)


@pytest.mark.parametrize(
    "text",
    ["0", "-24", "0.001", "0.00999", "1/101", "1000.1", "1e9", "1e400", "nan", "inf", "-inf", "0/7", "999999999/1"],
)
def test_out_of_range(text):
    with pytest.raises(UsageError, match=r"expected frames a second, from 0\.01 to 1000"):
        Rate.parse(text)
