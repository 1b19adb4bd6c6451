"""The command `jax-interp upsample`, which runs the prompt upsampler alone."""

from pathlib import Path
from typing import Annotated

import typer

from jax_interp.cli.options.groups import Under, with_options
from jax_interp.cli.options.memory import StageMemoryOptions
from jax_interp.cli.options.networks import NetworkOptions
from jax_interp.cli.options.reports import ReportOptions
from jax_interp.cli.options.requests import UpsampleRequest
from jax_interp.cli.options.sampling import SamplingOptions
from jax_interp.cli.options.text import TextOptions

_NETWORKS = Under(
    only=("checkpoint_dir", "prompt_upsampler_dir", "quantization"),
    help={"quantization": "int8; the others are the same here: keep the weights of its language model in 8 bits."},
)
_SEED = Under(only=("seed",), help={"seed": "Decides between nearly equal words."})
_PRECISION = Under(only=("dtype",), help={"dtype": "What it computes in."})


@with_options
def upsample(
    *,
    input: Annotated[
        list[Path], typer.Argument(help="A picture, or a video, a folder or pictures, of which the last frame counts.")
    ],
    text: Annotated[TextOptions, Under(only=("upsampler_instruction", "upsampler_tokens"))],
    sampling: Annotated[SamplingOptions, _SEED],
    output: Annotated[Path | None, typer.Option(help="A file for the prompt, beside printing it.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let --output replace a file.")] = False,
    networks: Annotated[NetworkOptions, _NETWORKS],
    precision: Annotated[SamplingOptions, _PRECISION],
    memory: StageMemoryOptions,
    reports: ReportOptions,
) -> None:
    """Let Pixtral look at a frame and write the prompt. Prints it."""
    reports.begin()
    request = UpsampleRequest(
        input=tuple(input),
        memory=memory.settings("prompt_upsampler"),
        settings=text.upsampler(),
        seed=sampling.seed,
        output=output,
        overwrite=overwrite,
        checkpoint_dir=networks.checkpoint_dir,
        folder=networks.folders["prompt_upsampler"],
        dtype=precision.dtype,
        quantization=networks.quantization,
    )
    from jax_interp.cli.runs.upsample import run

    run(request)
