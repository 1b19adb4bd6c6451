"""The options for the frames to interpolate and for the files of the result."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from jax_interp.cli.options.encoding import EncodingOptions
from jax_interp.cli.options.groups import Under
from jax_interp.cli.options.reports import ReportOptions
from jax_interp.cli.options.timeline import TimelineOptions
from jax_interp.errors import UsageError

_NONE = TimelineOptions()


@dataclass(frozen=True)
class InputOptions:
    """The options for the given frames, and for what becomes of their time, sound and shape."""

    input: Annotated[
        list[Path] | None,
        typer.Option(
            "--input", "--input-image-or-video-path", help="A video, a folder of pictures, or two or more pictures."
        ),
    ] = None
    batch_input_path: Annotated[
        Path | None,
        typer.Option(help='JSON lines, one clip each: {"visual_input": ..., "prompt": ..., "name": ...}.'),
    ] = None
    num_frame_pairs: Annotated[int | None, typer.Option(help="Pairs to interpolate; all by default.")] = None
    frame_stride: Annotated[int, typer.Option(help="Input frames from one end of a pair to the other.")] = 1
    frame_index_start: Annotated[int, typer.Option(help="First frame of the first pair.")] = 0
    timeline: Annotated[TimelineOptions, Under("Rate, cuts, sound and shape")] = _NONE

    def check(self) -> None:
        """Raise `UsageError` unless exactly one kind of input is given."""
        if (self.input is None) == (self.batch_input_path is None):
            raise UsageError("give either --input (a video, a folder, or pictures) or --batch-input-path (JSON lines)")


@dataclass(frozen=True)
class OutputOptions:
    """The options for the files that are written."""

    video_save_folder: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("outputs")
    video_save_name: Annotated[
        str,
        typer.Option(
            help="NAME.mp4, NAME.json (the run record) and NAME.txt (the prompt). End it in .mkv or .mov for that"
            " container, in .gif or .webp for a short clip."
        ),
    ] = "output"
    save_frames: Annotated[Path | None, typer.Option(help="Folder for the video's frames as PNG, lossless.")] = None
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Let --save-frames replace a folder of frames, and the results replace files of that name that this"
            " program did not write.",
        ),
    ] = False
    encoding: Annotated[EncodingOptions, Under("Encoding")] = field(default_factory=EncodingOptions)
    reports: Annotated[ReportOptions, Under("Reports")] = field(default_factory=ReportOptions)


@dataclass(frozen=True)
class UpstreamOptions:
    """The options of upstream's program, which are accepted so that its command lines work."""

    num_input_frames: Annotated[int, typer.Option(help="Only 1.")] = 1
    benchmark: Annotated[bool, typer.Option("--benchmark", help="Print the seconds of every stage.")] = False

    def check(self) -> None:
        """Raise `UsageError` for an option that asks for what the interpolator cannot do."""
        if self.num_input_frames != 1:
            raise UsageError(f"--num-input-frames {self.num_input_frames}: the interpolator only takes 1")
