"""`jax-interp check`: the guardrails alone, on a prompt or on a video."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jax_interp.cli.options.networks import (
    GUARDRAILS,
    NONE_GIVEN,
    NetworkFolders,
    which_converted,
    with_network_folders,
)
from jax_interp.errors import Blocked, UsageError
from jax_interp.terminal import show

if TYPE_CHECKING:
    from jax_interp.cli.options.memory import MemoryFlags
    from jax_interp.guardrails.verdict import Verdict
    from jax_interp.media.source import FrameSource
    from jax_interp.media.writer import VideoWriter
    from jax_interp.pipeline.safety.guardrails import Guardrails

RATE = 24
"""Frames a second of pictures that are saved as a video."""


@with_network_folders(which_converted(), GUARDRAILS)
def check(
    prompt: Annotated[str | None, typer.Option(help="Text to check.")] = None,
    video: Annotated[
        list[Path] | None,
        typer.Option("--video", "--input", help="A video, a folder of pictures, or pictures to check."),
    ] = None,
    save_blurred: Annotated[
        Path | None, typer.Option(help="Write the video with faces pixelated (mp4, mkv, mov), if it is not blocked.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let --save-blurred replace a file.")] = False,
    checkpoint_dir: Annotated[Path, typer.Option(help="Folder that `jax-interp convert` made.")] = Path("converted"),
    folders: NetworkFolders = NONE_GIVEN,
    guardrail_frame_stride: Annotated[
        int, typer.Option(help="Look at every n-th frame; faces are pixelated on all.")
    ] = 1,
    guardrail_timeout: Annotated[
        float, typer.Option(help="Seconds that a check may take, loading and compiling included.")
    ] = 600.0,
    memory_budget: Annotated[str, typer.Option(help="GPU memory to use, as 8GB or 6GiB; auto: what is free.")] = "auto",
    placement: Annotated[
        Literal["resident", "offloaded", "streamed"] | None,
        typer.Option(help="Where the networks live between checks; without, as --memory-budget says."),
    ] = None,
) -> None:
    """Ask the guardrails about a prompt or a video. Exit code 0 if all of them let it pass, 8 if one blocks it."""
    if prompt is None and not video:
        raise UsageError("nothing to check: give --prompt, --video or both")
    if save_blurred is not None and not video:
        raise UsageError("--save-blurred: there is no --video to take the frames from")

    from jax_interp.cli.options.memory import AUTO, MemoryFlags
    from jax_interp.cli.terminal.console import show_log
    from jax_interp.media.reader import open_frames

    show_log()
    placements = [] if placement is None else [f"guardrail_models={placement}"]
    flags = MemoryFlags.parse(memory_budget, placements, AUTO, "1", offloaded={})
    if save_blurred is not None:
        _check_output(save_blurred, video or [], checkpoint_dir, overwrite)
    source = open_frames(video, at_least=1) if video else None
    writer = _writer(save_blurred, source) if source is not None and save_blurred is not None else None
    flags.limit_process()

    from jax_interp.media.destination import held
    from jax_interp.pipeline.safety.guardrails import PROMPT_GUARDRAILS, Guardrails
    from jax_interp.runtime.compile_cache import enable_compile_cache

    enable_compile_cache()
    guardrails = Guardrails.open(
        checkpoint_dir,
        **{f"{name}_dir": folder for name, folder in folders.items()},
        frame_stride=guardrail_frame_stride,
        timeout=guardrail_timeout,
    )
    _place(guardrails, flags, source)
    allowed = True
    if prompt is not None:
        allowed &= _show("prompt", guardrails.ask_about_prompt(prompt), PROMPT_GUARDRAILS)
    if source is not None:
        with held(save_blurred) if save_blurred is not None else nullcontext():
            allowed &= _check_video(guardrails, source, writer)
    if not allowed:
        raise typer.Exit(Blocked.exit_code)


def _place(guardrails: "Guardrails", flags: "MemoryFlags", source: "FrameSource | None") -> None:
    """Plan for the size of the frames; what is missing of the guardrails is said by their verdicts."""
    from jax_interp.pipeline.memory.networks import Networks
    from jax_interp.pipeline.settings import InterpolationSettings
    from jax_interp.runtime.mesh import DeviceMesh

    settings = InterpolationSettings()
    if source is not None:
        settings = replace(settings, height=source.height, width=source.width)
    if guardrails.networks:
        flags.place(Networks([guardrails], DeviceMesh()), settings)


def _check_video(guardrails: "Guardrails", source: "FrameSource", writer: "VideoWriter | None") -> bool:
    """Check all frames, and give them to `writer`; whether every guardrail lets them pass."""
    from jax_interp.cli.terminal.progress import progress
    from jax_interp.pipeline.safety.clip_check import check_clip
    from jax_interp.pipeline.safety.guardrails import FRAME_GUARDRAILS

    with progress("checking frames", source.num_frames) as task:
        verdicts = check_clip(guardrails, source, writer, task.update)
    return _show("video", verdicts, FRAME_GUARDRAILS)


def _check_output(path: Path, inputs: list[Path], checkpoint_dir: Path, overwrite: bool) -> None:
    from jax_interp.media.destination import check_destination, clip_files
    from jax_interp.pipeline.jobs.outputs import network_files

    read = [*clip_files(inputs, "the video that is to be checked"), *network_files(checkpoint_dir)]
    check_destination(path, "--save-blurred", read, overwrite=overwrite)


def _writer(path: Path, source: "FrameSource") -> "VideoWriter":
    from jax_interp.media.writer import VideoWriter

    odd = source.height % 2 or source.width % 2
    # Colours at half the size need even sides.
    return VideoWriter(path, source.fps or RATE, source.height, source.width, pixel_format="yuv444p" if odd else None)


def _show(what: str, verdicts: "Mapping[str, Verdict]", names: tuple[str, ...]) -> bool:
    """Print a line for each guardrail; whether all of them let it pass."""
    from jax_interp.pipeline.safety.guardrails import together

    for name in names:
        if name not in verdicts:
            show(f"{what}, {name}: not asked")
            continue
        verdict = verdicts[name]
        state = "allowed" if verdict.allowed else f"BLOCKED, {verdict.category}" if verdict.category else "BLOCKED"
        show(f"{what}, {name}: {state}: {verdict.reason}")
    return together(verdicts, names).allowed
