"""The frame rates that an output may have, and what a number of frames a second means exactly."""

from fractions import Fraction

SLOWEST, FASTEST = Fraction(1, 100), 1000
"""Frame rates in frames a second. Rates between them are kept exactly; containers count in ticks of at most 32 bits."""


def exact_rate(fps: Fraction | float) -> Fraction:
    """Return a frame rate as a fraction; a float within 0.005 of n/1.001 (n whole: 23.976, 29.97) becomes that."""
    if not isinstance(fps, float) or fps.is_integer():
        return Fraction(fps)
    ntsc = Fraction(round(fps) * 1000, 1001)
    return ntsc if ntsc and abs(fps - ntsc) < 0.005 else Fraction(fps).limit_denominator(100_000)
