"""The options of `compare`: what of the clips is in the page, and where it goes."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from jax_interp.errors import UsageError


@dataclass(frozen=True)
class ComparisonOptions:
    """The options for the page."""

    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("compare.html")
    name: Annotated[
        list[str] | None,
        typer.Option(help="What the page calls the clips, in their order; by default as their files are called."),
    ] = None
    frames: Annotated[
        str | None, typer.Option(help="START:END of the frames to compare, counted in the clip that has the most.")
    ] = None
    width: Annotated[
        int | None, typer.Option(help="Width of the pictures at most.", show_default="that of the first clip")
    ] = None
    quality: Annotated[int, typer.Option(help="Quality of the pictures (WebP), from 1 to 100, which is lossless.")] = 90
    align: Annotated[
        Literal["auto", "time", "ends"],
        typer.Option(
            help="Which frames are shown together. time: those of the same second; ends: the first, the last, and what"
            " lies between in proportion; auto: by time if the clips are equally long."
        ),
    ] = "auto"
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let --output replace a file.")] = False

    def bounds(self) -> tuple[int, int | None]:
        """Return the first of the frames, and the one after the last (None: all); raises `UsageError`."""
        if self.frames is None:
            return 0, None
        found = re.fullmatch(r"([0-9]{0,9}):([0-9]{0,9})", self.frames)
        if found is None:
            raise UsageError(f"--frames {self.frames}: expected START:END, as 0:240, :240 or 100:")
        return int(found[1] or 0), int(found[2]) if found[2] else None
