"""The option --fps: a number or a fraction."""

from fractions import Fraction
from typing import NamedTuple

from jax_interp.media.output_rate import exact_rate, parse_rate


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
        rate = parse_rate(text, "--fps")
        return cls(exact_rate(rate), float(rate))
