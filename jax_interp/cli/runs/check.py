"""The run of `jax-interp check`: it opens the guardrails, applies them and shows their verdicts."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import typer

from jax_interp.cli.options.requests import CheckRequest
from jax_interp.cli.terminal.progress import progress
from jax_interp.errors import Blocked
from jax_interp.guardrails.verdict import Verdict
from jax_interp.media.destination import check_destination, clip_files, locked_result
from jax_interp.media.reader import open_frames
from jax_interp.media.source import FrameSource
from jax_interp.media.video.codecs import ANIMATIONS, check_length
from jax_interp.media.writer import VideoWriter
from jax_interp.pipeline.jobs.outputs import network_files
from jax_interp.pipeline.memory.networks import Networks
from jax_interp.pipeline.memory.placing import limit_process, place
from jax_interp.pipeline.memory.settings import MemorySettings
from jax_interp.pipeline.safety.clip_check import check_clip
from jax_interp.pipeline.safety.guardrails import FRAME_GUARDRAILS, PROMPT_GUARDRAILS, Guardrails, combine_verdicts
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.runtime.compile_cache import enable_compile_cache
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.terminal import show

RATE = 24
"""The frame rate, in frames per second, of pictures that are saved as a video."""


def run(request: CheckRequest) -> None:
    """Print the verdicts of the guardrails; end the command with `Blocked.exit_code` if one of them blocks."""
    _check_output(request)
    path = request.save_blurred
    source = open_frames(request.video, at_least=1) if request.video else None
    writer = _writer(path, source) if source is not None and path is not None else None
    limit_process(request.memory)
    enable_compile_cache()
    guardrails = Guardrails.open(
        request.checkpoint_dir,
        **{f"{name}_dir": folder for name, folder in request.folders.items()},
        frame_stride=request.guardrails.frame_stride,
        timeout=request.guardrails.timeout,
        quantization=request.quantization,
    )
    _place(guardrails, request.memory, source)
    allowed = True
    if request.prompt is not None:
        allowed &= _show("prompt", guardrails.prompt_verdicts(request.prompt), PROMPT_GUARDRAILS)
    if source is not None:
        with locked_result(path) if path is not None else nullcontext():
            allowed &= _check_video(guardrails, source, writer)
    if not allowed:
        raise typer.Exit(Blocked.exit_code)


def _place(guardrails: Guardrails, memory: MemorySettings, source: FrameSource | None) -> None:
    """Place the guardrails for the size of the frames; their verdicts report networks that are missing."""
    settings = InterpolationSettings()
    if source is not None:
        settings = replace(settings, height=source.height, width=source.width)
    if guardrails.networks:
        place(memory, Networks([guardrails], DeviceMesh()), settings)


def _check_video(guardrails: Guardrails, source: FrameSource, writer: VideoWriter | None) -> bool:
    """Check all frames, give them to `writer`, and return whether every guardrail lets them pass."""
    with progress("checking frames", source.num_frames) as task:
        verdicts = check_clip(guardrails, source, writer, task.update)
    return _show("video", verdicts, FRAME_GUARDRAILS)


def _check_output(request: CheckRequest) -> None:
    if request.save_blurred is None:
        return
    read = [
        *clip_files(request.video, "the video that is to be checked"),
        *network_files(request.checkpoint_dir),
    ]
    check_destination(request.save_blurred, "--save-blurred", read, overwrite=request.overwrite)


def _writer(path: Path, source: FrameSource) -> VideoWriter:
    odd = (source.height % 2 or source.width % 2) and path.suffix.lower() not in ANIMATIONS
    check_length(path, source.num_frames, source.height, source.width)
    # Chroma at half the resolution needs even sides.
    return VideoWriter(
        path,
        source.fps or RATE,
        source.height,
        source.width,
        pixel_format="yuv444p" if odd else None,
        pixel_aspect=source.pixel_aspect,
    )


def _show(what: str, verdicts: Mapping[str, Verdict], names: tuple[str, ...]) -> bool:
    """Print a line for each guardrail, and return whether all of them let it pass."""
    for name in names:
        if name not in verdicts:
            show(f"{what}, {name}: not asked")
            continue
        verdict = verdicts[name]
        state = "allowed" if verdict.allowed else f"BLOCKED, {verdict.category}" if verdict.category else "BLOCKED"
        show(f"{what}, {name}: {state}: {verdict.reason}")
    return combine_verdicts(verdicts, names).allowed
