"""The option --fps: a number or a fraction."""

import re
from fractions import Fraction
from typing import NamedTuple

from jax_interp.errors import UsageError
from jax_interp.media.output_rate import FASTEST, SLOWEST, exact_rate

_FRACTION = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


class Rate(NamedTuple):
    """A frame rate, in frames per second, in the two forms in which it is used."""

    exact: Fraction
    """The rate of the file."""
    value: float
    """The rate that the network is told."""

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Parse `24000/1001`, `24`, or `23.976`, which becomes 24000/1001 in the file.

        Raises:
            UsageError: the text is neither a number nor a fraction, or out of range.
        """
        fraction = _FRACTION.fullmatch(text.strip())
        try:
            rate = Fraction(int(fraction[1]), int(fraction[2])) if fraction else float(text)
        except (ValueError, ZeroDivisionError):
            raise UsageError(f"--fps {text}: expected frames a second, as 24, 23.976 or 24000/1001") from None
        if not SLOWEST <= rate <= FASTEST:
            raise UsageError(f"--fps {text}: expected frames a second, from {float(SLOWEST)} to {FASTEST}")
        return cls(exact_rate(rate), float(rate))
