"""The run of `jax-interp compare`, which opens the clips and writes the page."""

from jax_interp.cli.options.requests import CompareRequest
from jax_interp.cli.terminal.progress import progress
from jax_interp.evaluation.compare.page import NamedClip, PageSettings, write_page
from jax_interp.media.destination import check_destination, clip_files, locked_result
from jax_interp.media.reader import open_frames
from jax_interp.terminal import show


def run(request: CompareRequest) -> None:
    """Write the page of `request`; raises what `write_page` does, and `UsageError` if the file may not be written."""
    check_destination(request.output, "--output", clip_files(request.clips, "a clip"), overwrite=request.overwrite)
    settings = PageSettings(
        alignment=request.alignment,
        first=request.first,
        end=request.end,
        width=request.width,
        quality=request.quality,
    )
    sources = [open_frames([path], at_least=1) for path in request.clips]
    clips = [NamedClip(name, source) for name, source in zip(request.shown_names(), sources, strict=True)]
    with locked_result(request.output), progress(f"comparing {len(clips)} clips") as task:
        moments = write_page(request.output, " and ".join(clip.name for clip in clips), clips, settings, task.update)
    size = request.output.stat().st_size
    facts = {"page": str(request.output), "frames": moments, "bytes": size}
    show(f"{request.output}: {moments} frames of {len(clips)} clips, {size / 1e6:.1f} MB", **facts)
