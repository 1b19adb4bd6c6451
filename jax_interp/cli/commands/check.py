"""The command `jax-interp check`, which runs only the guardrails, on a prompt or on a video."""

from pathlib import Path
from typing import Annotated

import typer

from jax_interp.cli.options.groups import Under, with_options
from jax_interp.cli.options.guardrails import GuardrailOptions
from jax_interp.cli.options.memory import StageMemoryOptions
from jax_interp.cli.options.networks import GUARDRAILS, NetworkOptions
from jax_interp.cli.options.reports import ReportOptions
from jax_interp.cli.options.requests import CheckRequest
from jax_interp.components import GUARDRAIL_MODELS

_NETWORKS = Under(
    only=("checkpoint_dir", *(f"{name}_dir" for name in GUARDRAILS), "quantization"),
    help={"quantization": "int8; the others are the same here: keep the prompts' classifier's weights in 8 bits."},
)
_GUARDRAILS = Under(
    only=("guardrail_frame_stride", "guardrail_timeout"),
    help={"guardrail_timeout": "Seconds that a check may take, loading and compiling included."},
)
_MEMORY = Under(help={"placement": "Where the networks live between checks; without, as --memory-budget says."})


@with_options
def check(
    *,
    prompt: Annotated[str | None, typer.Option(help="Text to check.")] = None,
    video: Annotated[
        list[Path] | None,
        typer.Option("--video", "--input", help="A video, a folder of pictures, or pictures to check."),
    ] = None,
    save_blurred: Annotated[
        Path | None,
        typer.Option(help="Write the video with faces pixelated (mp4, mkv, mov, gif, webp), if it is not blocked."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let --save-blurred replace a file.")] = False,
    networks: Annotated[NetworkOptions, _NETWORKS],
    guardrails: Annotated[GuardrailOptions, _GUARDRAILS],
    memory: Annotated[StageMemoryOptions, _MEMORY],
    reports: ReportOptions,
) -> None:
    """Ask the guardrails about a prompt or a video. Exit code 0 if all of them let it pass, 8 if one blocks it."""
    reports.begin()
    request = CheckRequest(
        prompt=prompt,
        video=tuple(video or ()),
        save_blurred=save_blurred,
        overwrite=overwrite,
        checkpoint_dir=networks.checkpoint_dir,
        folders={name: networks.folders[name] for name in GUARDRAILS},
        memory=memory.settings(GUARDRAIL_MODELS),
        guardrails=guardrails.settings(),
        quantization=networks.quantization,
    )
    from jax_interp.cli.runs.check import run

    run(request)
