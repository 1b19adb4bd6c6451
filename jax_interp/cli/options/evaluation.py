"""The options of `evaluate`: what is compared, and where the report goes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from jax_interp.cli.options.groups import Under
from jax_interp.cli.options.reports import ReportOptions


@dataclass(frozen=True)
class EvaluationOptions:
    """The options for the methods that are compared, and for the report."""

    against: Annotated[
        list[Path] | None,
        typer.Option(
            help="Output of another tool for the same keyframes, which is scored too: a video, or a folder of pictures."
        ),
    ] = None
    skip_generation: Annotated[
        bool,
        typer.Option(
            "--skip-generation", help="Score --against, nearest and blend alone: no network is loaded or needed."
        ),
    ] = False
    scene_cuts: Annotated[
        str | None,
        typer.Option(
            metavar="auto|off|FILE",
            help="Pairs across a cut are left out: auto finds cuts (PySceneDetect), FILE lists the frames that begin a"
            " scene, one a line, or is a run record.",
            show_default="auto, if PySceneDetect is installed",
        ),
    ] = None
    save_keyframes: Annotated[
        Path | None, typer.Option(help="Folder for the keyframes as PNG, for other tools to interpolate.")
    ] = None
    output_dir: Annotated[
        Path,
        typer.Option(
            help="Folder of report.json, plot.png, and for each clip CLIP.mkv, what was generated (lossless), and"
            " CLIP.html, the page to compare it."
        ),
    ] = Path("evaluation")
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier report.")] = False
    reports: Annotated[ReportOptions, Under("Reports")] = field(default_factory=ReportOptions)
