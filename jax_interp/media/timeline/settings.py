"""What is asked of an output's time: its rate, slow motion, keyframes, scene cuts and duplicates. Imports no numpy."""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from jax_interp.errors import UsageError
from jax_interp.media.output_rate import FASTEST, SLOWEST, exact_rate, parse_rate

Keyframes: TypeAlias = Literal["original", "decoded"]
SceneCuts: TypeAlias = Literal["auto", "off"] | Path | tuple[int, ...]
"""How cuts are found: by PySceneDetect's detector, not at all, in a file (`media.cut_file`), or given as the numbers of
the frames that begin a scene, in the input and counted from 0."""
Duplicates: TypeAlias = Literal["keep", "merge"]

MOST_SLOWED = 1000
_TIMES_SOURCE = re.compile(r"([0-9]+(?:\.[0-9]+)?)x")
_ALSO = ", source, or a multiple of the source's rate, as 2x"


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """When output frames are shown in terms of the input's time, and which of them are the input's own.

    The default is upstream's pace: every pair becomes ten frames, whatever its length in the input. With a rate or slow
    motion the input's time stamps are followed instead, and the output lasts as long as the input, or `slow_motion`
    times as long.

    ```python
    Timeline(rate=60)                       # any input to 60 frames a second
    Timeline(rate="60000/1001")             # 59.94
    Timeline(rate="2x")                     # twice the input's rate
    Timeline(slow_motion=4)                 # four times as long, at the input's rate
    ```
    """

    rate: Fraction | float | str | None = None
    """Frames a second of the output: a number, a text as `--rate` takes, "source" for the input's rate or "2x" for a
    multiple of it. None is upstream's pace, in slow motion the input's rate."""
    slow_motion: Fraction | float | str = 1
    """How many times as long as the input the output lasts; from 1 on."""
    keyframes: Keyframes | None = None
    """Whether the input's own frames appear as they are ("original") or as the network decodes them ("decoded"); None
    is decoded at upstream's pace, else original."""
    scene_cuts: SceneCuts | None = None
    """No pair crosses a cut. None looks for them ("auto") unless at upstream's pace, if PySceneDetect is installed."""
    duplicates: Duplicates = "keep"
    """Whether runs of up to `nodes.MOST_MERGED` frames that are the same count as one ("merge")."""

    def __post_init__(self) -> None:
        """Raise `UsageError` for what can never work."""
        _parse_output_rate(self.rate)
        _parse_slow_motion(self.slow_motion)
        if self.keyframes not in (None, *get_args(Keyframes)):
            raise UsageError(f"--keyframes {self.keyframes}: expected original or decoded")
        if self.duplicates not in get_args(Duplicates):
            raise UsageError(f"--duplicates {self.duplicates}: expected keep or merge")
        if isinstance(self.scene_cuts, str) and self.scene_cuts not in ("auto", "off"):
            raise UsageError(f"scene_cuts is {self.scene_cuts!r}: expected 'auto', 'off', a Path or a tuple of frames")

    @property
    def follows_source(self) -> bool:
        """Whether the input's time stamps are followed; False at upstream's pace."""
        return self.rate is not None or self.slowed != 1

    @property
    def slowed(self) -> Fraction:
        """`slow_motion`, exact."""
        return _parse_slow_motion(self.slow_motion)

    @property
    def original_keyframes(self) -> bool:
        """Whether the input's own frames appear as they are."""
        return self.follows_source if self.keyframes is None else self.keyframes == "original"

    def output_rate(self, source: Fraction) -> Fraction:
        """Return the output's rate for an input of `source` frames a second.

        Raises:
            UsageError: a multiple of the input's rate is out of range.
        """
        given = _parse_output_rate(self.rate)
        if isinstance(given, Fraction):
            return given
        rate = source * (given.factor if given else 1)
        if not SLOWEST <= rate <= FASTEST:
            raise UsageError(
                f"--rate {self.rate or 'source'}: is {float(rate):g} frames a second for this input of"
                f" {float(source):g}; expected {float(SLOWEST)} to {FASTEST}"
            )
        return rate


@dataclass(frozen=True)
class _TimesSource:
    factor: Fraction


def _parse_output_rate(rate: Fraction | float | str | None) -> Fraction | _TimesSource | None:
    """Return the rate, or the factor to apply to the source's; None where none was asked for."""
    if rate is None:
        return None
    if not isinstance(rate, str):
        rate = parse_rate(str(rate), "--rate", _ALSO)
        return exact_rate(rate)
    text = rate.strip()
    if text == "source":
        return _TimesSource(Fraction(1))
    if found := _TIMES_SOURCE.fullmatch(text):
        factor = Fraction(found[1])
        if not 0 < factor <= FASTEST:
            raise UsageError(f"--rate {rate}: expected a multiple of the source's rate above 0, as 2x")
        return _TimesSource(factor)
    return exact_rate(parse_rate(rate, "--rate", _ALSO))


def _parse_slow_motion(value: Fraction | float | str) -> Fraction:
    try:
        slowed = Fraction(str(value).strip())
    except (ValueError, ZeroDivisionError):
        slowed = Fraction(0)
    if not 1 <= slowed <= MOST_SLOWED:
        raise UsageError(
            f"--slow-motion {value}: expected how many times as long the clip is to last, from 1 to {MOST_SLOWED}, as 4"
            " or 2.5"
        )
    return slowed
