"""The command `jax-interp compare`, which writes a page to look at clips side by side."""

from pathlib import Path
from typing import Annotated

import typer

from jax_interp.cli.options.comparison import ComparisonOptions
from jax_interp.cli.options.groups import Under, with_options
from jax_interp.cli.options.reports import ReportOptions
from jax_interp.cli.options.requests import CompareRequest


@with_options
def compare(
    *,
    clips: Annotated[
        list[Path], typer.Argument(help="Two or three clips, each a video, an animation or a folder of pictures.")
    ],
    page: Annotated[ComparisonOptions, Under("Page")],
    reports: Annotated[ReportOptions, Under("Reports")],
) -> None:
    """Write one HTML file in which two or three clips play in step, with a divider to drag and single steps.

    It holds all pictures, needs no network, and plots how much the clips differ from frame to frame.
    """
    reports.begin()
    first, end = page.bounds()
    request = CompareRequest(
        clips=tuple(clips),
        names=tuple(page.name or ()),
        output=page.output,
        overwrite=page.overwrite,
        first=first,
        end=end,
        width=page.width,
        quality=page.quality,
        alignment=page.align,
    )
    from jax_interp.cli.runs.compare import run

    run(request)
