"""The run of `jax-interp upsample`: it opens the prompt upsampler and has it write a prompt for a frame."""

from jax_interp.cli.options.requests import UpsampleRequest
from jax_interp.cli.terminal.progress import progress
from jax_interp.files.atomic import write_atomically
from jax_interp.media.destination import check_destination, clip_files
from jax_interp.media.output import as_media_error
from jax_interp.media.reader import last_frame
from jax_interp.pipeline.jobs.outputs import network_files
from jax_interp.pipeline.memory.networks import Networks
from jax_interp.pipeline.memory.placing import limit_process, place
from jax_interp.pipeline.prompt.prompt_upsampler import PromptUpsampler
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.compile_cache import enable_compile_cache
from jax_interp.runtime.mesh import DeviceMesh
from jax_interp.terminal import show


def run(request: UpsampleRequest) -> None:
    """Print the prompt, and write it to a file if one was named."""
    if request.output is not None:
        read = [
            *clip_files(request.input, "what the prompt is written about"),
            *network_files(request.checkpoint_dir),
        ]
        check_destination(request.output, "--output", read, overwrite=request.overwrite)
    picture = last_frame(request.input)
    limit_process(request.memory)
    enable_compile_cache()
    devices = DeviceMesh()
    converted = find_component(request.checkpoint_dir, "prompt_upsampler", request.folder)
    converted = converted.quantized(request.quantization)
    upsampler = PromptUpsampler(converted, request.dtype, devices)
    networks, settings = Networks([upsampler], devices), InterpolationSettings()
    place(request.memory, networks, settings)
    with (
        progress("tokens", request.settings.max_new_tokens) as task,
        networks.explain_out_of_memory("upsample", settings),
    ):
        prompt = upsampler.upsample(picture, request.settings, seed=request.seed, progress=task.update)
    show(prompt)
    if request.output is not None:
        with as_media_error(request.output):
            write_atomically(request.output, f"{prompt}\n".encode())
