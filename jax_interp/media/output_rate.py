"""The frame rates that an output may have, and what a number of frames a second means exactly."""

import re
from fractions import Fraction

from jax_interp.errors import UsageError

SLOWEST, FASTEST = Fraction(1, 100), 1000
"""Frame rates in frames a second. Rates between them are kept exactly; containers count in ticks of at most 32 bits."""

_FRACTION = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


def exact_rate(fps: Fraction | float) -> Fraction:
    """Return a frame rate as a fraction; a float within 0.005 of n/1.001 (n whole: 23.976, 29.97) becomes that."""
    if not isinstance(fps, float) or fps.is_integer():
        return Fraction(fps)
    ntsc = Fraction(round(fps) * 1000, 1001)
    return ntsc if ntsc and abs(fps - ntsc) < 0.005 else Fraction(fps).limit_denominator(100_000)


def parse_rate(text: str, flag: str, also: str = "") -> Fraction | float:
    """Parse `24`, `23.976` or `24000/1001`; a fraction comes back as one, a decimal number as a float.

    Raises:
        UsageError: the text is neither a number nor a fraction, or out of range; names `flag`, and `also`, what else
            that option takes.
    """
    fraction = _FRACTION.fullmatch(text.strip())
    try:
        rate = Fraction(int(fraction[1]), int(fraction[2])) if fraction else float(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{flag} {text}: expected frames a second, as 24, 23.976 or 24000/1001{also}") from None
    if not SLOWEST <= rate <= FASTEST:
        raise UsageError(f"{flag} {text}: expected frames a second, from {float(SLOWEST)} to {FASTEST}{also}")
    return rate
