"""`jax-interp upsample`: the prompt upsampler by itself."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jax_interp.cli.options.networks import NONE_GIVEN, NetworkFolders, which_converted, with_network_folders
from jax_interp.errors import UsageError
from jax_interp.terminal import show

Precision = Literal["bfloat16", "float32"]


@with_network_folders(which_converted(), ["prompt_upsampler"])
def upsample(
    input: Annotated[
        list[Path], typer.Argument(help="A picture, or a video, a folder or pictures, of which the last frame counts.")
    ],
    upsampler_instruction: Annotated[
        str | None, typer.Option(help="What it is asked to write, in place of its own words.")
    ] = None,
    upsampler_tokens: Annotated[int, typer.Option(help="Tokens that it writes at most.")] = 400,
    seed: Annotated[int, typer.Option(help="Decides between nearly equal words.")] = 11,
    output: Annotated[Path | None, typer.Option(help="A file for the prompt, beside printing it.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let --output replace a file.")] = False,
    checkpoint_dir: Annotated[Path, typer.Option(help="Folder that `jax-interp convert` made.")] = Path("converted"),
    folders: NetworkFolders = NONE_GIVEN,
    dtype: Annotated[Precision, typer.Option(help="What it computes in.")] = "bfloat16",
    memory_budget: Annotated[str, typer.Option(help="GPU memory to use, as 8GB or 6GiB; auto: what is free.")] = "auto",
    placement: Annotated[
        Literal["resident", "offloaded", "streamed"] | None,
        typer.Option(help="Where it lives until it is needed; without, as --memory-budget says."),
    ] = None,
) -> None:
    """Let Pixtral look at a frame and write the prompt. Prints it."""
    from jax_interp.cli.options.memory import AUTO, MemoryFlags
    from jax_interp.cli.options.upsampler import upsampler_settings
    from jax_interp.cli.terminal.console import show_log
    from jax_interp.cli.terminal.progress import progress

    show_log()
    placements = [] if placement is None else [f"prompt_upsampler={placement}"]
    flags = MemoryFlags.parse(memory_budget, placements, AUTO, "1", offloaded={})

    from jax_interp.files.atomic import write_atomically
    from jax_interp.media.destination import check_destination, clip_files
    from jax_interp.media.output import reported
    from jax_interp.media.reader import last_frame
    from jax_interp.pipeline.jobs.outputs import network_files

    settings = upsampler_settings(upsampler_instruction, upsampler_tokens)
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed is {seed}; expected a whole number from 0 to {2**32 - 1}")
    if output is not None and not output.absolute().parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {output.absolute().parent}; make it first")
    if output is not None:
        read = [*clip_files(input, "what the prompt is written about"), *network_files(checkpoint_dir)]
        check_destination(output, "--output", read, overwrite=overwrite)
    picture = last_frame(input)
    flags.limit_process()

    from jax_interp.pipeline.memory.networks import Networks
    from jax_interp.pipeline.prompt.prompt_upsampler import PromptUpsampler
    from jax_interp.pipeline.settings import InterpolationSettings
    from jax_interp.runtime.checkpoint import find_component
    from jax_interp.runtime.compile_cache import enable_compile_cache
    from jax_interp.runtime.mesh import DeviceMesh

    enable_compile_cache()
    devices = DeviceMesh()
    upsampler = PromptUpsampler(
        find_component(checkpoint_dir, "prompt_upsampler", folders["prompt_upsampler"]), dtype, devices
    )
    flags.place(Networks([upsampler], devices), InterpolationSettings())
    with progress("tokens", upsampler_tokens) as task:
        prompt = upsampler.upsample(picture, settings, seed=seed, progress=task.update)
    show(prompt)
    if output is not None:
        with reported(output):
            write_atomically(output, f"{prompt}\n".encode())
