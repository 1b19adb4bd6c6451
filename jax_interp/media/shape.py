"""The size that a clip's pictures have for the network and in the output: stretched to it, or fitted in and padded."""

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from jax_interp.errors import UsageError


class Size(NamedTuple):
    """The size of pictures in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


UPSTREAMS_SIZES = (Size(960, 960), Size(704, 960), Size(960, 704), Size(704, 1280), Size(1280, 704))
"""The sizes for which upstream's networks were trained."""

DEFAULT_SIZE = Size(704, 1280)
"""The network's size where none is asked for."""

_WRITTEN = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_FACTOR = 2
"""Output sizes are even, as encoders of 4:2:0 want them."""


@dataclass(frozen=True)
class Aspect:
    """How a picture is made to suit the network."""

    keep: bool = False
    """Whether it keeps its shape: it is fitted in and padded by reflection, and the output has no padding. Otherwise it
    is stretched, as upstream does."""
    size: Size | None = None
    """The network's size; None takes the height and width of the settings, or, where these are the default ones, the
    nearest of `UPSTREAMS_SIZES` in shape."""

    @classmethod
    def parse(cls, text: str) -> "Aspect":
        """Parse `auto`, `stretch`, or `960x704` (width by height).

        Raises:
            UsageError: it is something else.
        """
        if text in ("auto", "stretch"):
            return cls(keep=text == "auto")
        found = _WRITTEN.fullmatch(text)
        size = Size(int(found[2]), int(found[1])) if found else None
        if size is None or 0 in size or any(side % 16 for side in size):
            names = ", ".join(map(str, UPSTREAMS_SIZES))
            raise UsageError(
                f"--aspect {text}: expected auto, stretch, or the network's width and height, multiples of 16, as in"
                f" {names}"
            )
        return cls(keep=True, size=size)


@dataclass(frozen=True)
class Shape:
    """Where a picture lies in the network's: all of it where it is stretched, else between reflected edges."""

    network: Size
    top: int
    left: int
    inner: Size
    """The size of the picture without padding, which is that of the output."""
    stretched: bool

    @property
    def is_cropped(self) -> bool:
        return self.inner != self.network


def choose_shape(aspect: Aspect, source: Size, asked: Size) -> Shape:
    """Return the shape for pictures of the size `source`.

    `asked` is the network's size. Where the pictures keep their shape, `DEFAULT_SIZE` counts as not asked for.
    """
    if not aspect.keep:
        return Shape(asked, 0, 0, asked, stretched=True)
    size = aspect.size or (asked if asked != DEFAULT_SIZE else nearest_size(source))
    scale = min(size.height / source.height, size.width / source.width)
    inner = Size(*(_even(side * scale, most) for side, most in zip(source, size, strict=True)))
    top, left = ((outer - within) // 2 for outer, within in zip(size, inner, strict=True))
    return Shape(size, top, left, inner, stretched=False)


def nearest_size(source: Size) -> Size:
    """Return the one of upstream's sizes whose ratio of width to height is nearest to that of `source`."""
    ratio = math.log(source.width / source.height)
    return min(UPSTREAMS_SIZES, key=lambda size: abs(math.log(size.width / size.height) - ratio))


def _even(side: float, most: int) -> int:
    return min(most // _FACTOR * _FACTOR, max(_FACTOR, round(side / _FACTOR) * _FACTOR))
