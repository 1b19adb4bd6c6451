"""Which rates a video that is written may have, and what a number of frames a second means exactly."""

from fractions import Fraction

SLOWEST, FASTEST = Fraction(1, 100), 1000
"""Frames a second. Every rate between them is kept exactly; containers count in ticks of at most 32 bits."""


def exact_rate(fps: Fraction | float) -> Fraction:
    """Frames a second as a fraction; a float within 0.005 of n/1.001 (n whole, as in 23.976 or 29.97) becomes that."""
    if not isinstance(fps, float) or fps.is_integer():
        return Fraction(fps)
    ntsc = Fraction(round(fps) * 1000, 1001)
    return ntsc if ntsc and abs(fps - ntsc) < 0.005 else Fraction(fps).limit_denominator(100_000)
